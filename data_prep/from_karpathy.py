"""Make a dataset folder from captions in the Karpathy layout (MSCOCO, Flickr30K, Flickr8K) and a folder of images.

    python -m data_prep.from_karpathy --json dataset_coco.json --images coco/ --out data/coco
    python -m data_prep.from_karpathy --json dataset_flickr30k.json --images flickr30k-images/ --out data/flickr30k

The JSON file (or .json.gz) holds images[].filename, .split, .sentences[].raw; split restval counts as
train. An image lies at IMAGES/filepath/filename (MSCOCO's train2014/ and val2014/) or at IMAGES/filename.
Missing images are counted and named, and nothing is made, unless --skip-missing leaves them out. Images
that cannot be read, images without sentences and empty sentences are counted, listed and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.importing import LinkSettings, import_images, request_of
from data_prep.json_stream import stream_list
from data_prep.pictures import SourceImage, inside, survey
from data_prep.repeats import Keys
from data_prep.writing import Findings, Source, already_made
from semcore.commandline import run_command
from semcore.dataset import SPLITS
from semcore.errors import UserError
from semcore.files import sha256_of

SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}
# Images of each split in Karpathy's files, by the name the file gives itself.
PUBLISHED = {
    "flickr8k": (6_000, 1_000, 1_000),
    "flickr30k": (29_000, 1_014, 1_000),
    "coco": (113_287, 5_000, 5_000),
}
# Where the paper (section 4.1) counts otherwise.
IN_THE_PAPER = {"flickr30k": (29_783, 1_000, 1_000)}


@dataclass
class Settings(LinkSettings):
    """Which captions and images to import."""

    json: Path
    """The captions: a .json or .json.gz file in the Karpathy layout."""
    images: Path
    """The folder of the images."""
    out: Path
    """The dataset folder to make."""


def main(settings: Settings) -> None:
    """Read the captions, check and link the images, write the folder."""
    if not settings.images.is_dir():
        raise UserError(f"there is no folder of images {settings.images}; check --images")
    request = request_of("from_karpathy", settings, json=sha256_of(settings.json) if settings.json.is_file() else "")
    if already_made(settings.out, request):
        return
    about: dict[str, Any] = {}
    licences: set[str] = set()
    keys = Keys()
    found = survey(lambda: _source_images(settings, about, licences, keys))
    if not found.counts.total():
        raise UserError(f"{settings.json} holds no images")
    _refuse_repeats(settings, keys)
    source = Source(
        str(about.get("dataset", settings.out.name)),
        f"{settings.json.name} and the images of {settings.images.absolute()}",
        "; ".join(sorted(licences)) or "as at the source; not stated in the caption file",
        request,
    )
    findings = Findings(notes=count_notes(str(about.get("dataset", "")), found.counts))
    import_images(settings.out, lambda: _source_images(settings, {}, set(), Keys()), found, source, settings, findings)


def count_notes(name: str, counts: Mapping[str, int]) -> list[str]:
    """Hold the images of each split against the published ones, and say where the paper counts otherwise.

    >>> count_notes("coco", {"train": 113_287, "val": 5_000, "test": 5_000})
    []
    """
    published, own = PUBLISHED.get(name), tuple(counts.get(split, 0) for split in SPLITS)
    notes = []
    if published and own != published:
        notes.append(
            f"this {name} file has {_in_words(own)} images in train/val/test, Karpathy's has {_in_words(published)}: "
            "scores cannot be compared with published ones"
        )
    if published and name in IN_THE_PAPER:
        notes.append(
            f"the paper counts {_in_words(IN_THE_PAPER[name])} images of {name} in train/val/test, "
            f"Karpathy's file has {_in_words(published)}"
        )
    return notes


def stream_captions(path: Path, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the entries of a caption file; what else it says of itself goes into `about`.

    Raises:
        UserError: missing, damaged, not JSON (with the line number) or of another layout.
    """
    yield from stream_list(path, "images", about)


def _in_words(counts: tuple[int, ...]) -> str:
    return "/".join(f"{count:,}" for count in counts)


def _source_images(settings: Settings, about: dict[str, Any], licences: set[str], keys: Keys) -> Iterator[SourceImage]:
    for index, entry in enumerate(stream_captions(settings.json, about)):
        try:
            image = _source_image(entry, settings.images)
        except ValueError as error:
            raise UserError(f"{settings.json}: images[{index}] {error}") from None
        for key in _keys(entry, image):
            keys.add(key)
        if entry.get("license"):
            licences.add(str(entry["license"]))
        yield image


def _keys(entry: dict[str, Any], image: SourceImage) -> Iterator[tuple[str, str]]:
    """Yield what no two images may have in common."""
    yield "file", str(image.path)
    if "imgid" in entry:
        yield "imgid", str(entry["imgid"])


def _refuse_repeats(settings: Settings, keys: Keys) -> None:
    entries = enumerate(stream_captions(settings.json, {}))
    placed = ((key, index) for index, entry in entries for key in _keys(entry, _source_image(entry, settings.images)))
    if repeat := keys.first_repeat(placed):
        (kind, value), first, again = repeat
        raise UserError(f"{settings.json}: images[{again}] repeats the {kind} of images[{first}], {value}")


def _source_image(entry: Any, folder: Path) -> SourceImage:
    filename = entry.get("filename") if isinstance(entry, dict) else None
    if not isinstance(filename, str) or not filename:
        raise ValueError("has no filename")
    beside = f"{entry['filepath']}/{filename}" if entry.get("filepath") else filename
    for name in (filename, beside):
        if not inside(name):
            raise ValueError(f"has the filename {name!r}, which leads out of {folder}")
    split = entry.get("split")
    if split not in SPLIT_OF:
        raise ValueError(f"has the split {split!r}; there are {', '.join(SPLIT_OF)}")
    sentences = entry.get("sentences", [])
    if not isinstance(sentences, list):
        raise ValueError(f"has sentences that are no list: {sentences!r}")
    flat = not (folder / beside).exists() and (folder / filename).exists()
    path = folder / (filename if flat else beside)
    return SourceImage(path, filename, SPLIT_OF[split], tuple(_sentence(sentence) for sentence in sentences))


def _sentence(entry: Any) -> tuple[str | None, str]:
    if not isinstance(entry, dict):
        raise ValueError(f"has a sentence that is no object: {entry!r}")
    text = entry["raw"] if "raw" in entry else " ".join(map(str, entry.get("tokens", [])))
    if not isinstance(text, str):
        raise ValueError(f"has a sentence whose raw is no text: {text!r}")
    sentence_id = entry.get("sentid")
    return (None if sentence_id is None else "-".join(str(sentence_id).split())), text


if __name__ == "__main__":
    run_command(main, Settings)
