"""Make a dataset folder from captions in the Karpathy layout (MSCOCO, Flickr30K, Flickr8K) and a folder of images.

    python -m data_prep.from_karpathy --json dataset_coco.json --images coco/ --out data/coco
    python -m data_prep.from_karpathy --json dataset_flickr30k.json --images flickr30k-images/ --out data/flickr30k

The JSON file (or .json.gz) holds images[].filename, .split, .sentences[].raw; split restval counts as
train. An image lies at IMAGES/filepath/filename (MSCOCO's train2014/ and val2014/) or at IMAGES/filename.
Missing images are counted and named, and nothing is made, unless --skip-missing leaves them out. Entries that
cannot be used, images that cannot be read, images without sentences and empty sentences are counted, listed and
left out.

COCO's own captions_train2017.json and the like are read too; they say no splits, which are then drawn by lot
with --val-fraction and --test-fraction. Flickr's .token files are tables: python -m data_prep.from_csv reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.coco import CocoCaptions, is_coco
from data_prep.dataset_writer import Source, already_made
from data_prep.import_images import LinkSettings, import_images, request_of
from data_prep.json_stream import stream_list
from data_prep.left_out import BadRow, Findings
from data_prep.names import find_file, is_there
from data_prep.source_images import Images, SourceImage, Survey, inside, survey
from data_prep.splits import SplitSettings
from data_prep.tables import TOKEN_LINE, first_line
from semcore.commands.arguments import run_command
from semcore.data.dataset import SPLITS
from semcore.runtime.errors import UserError
from semcore.runtime.files import sha256_of
from semcore.runtime.repeats import Keys, Repeats
from semcore.runtime.typed_commands import data_command

SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}
# Images of each split in Karpathy's files, by the name the file gives itself.
PUBLISHED = {
    "flickr8k": (6_000, 1_000, 1_000),
    "flickr30k": (29_000, 1_014, 1_000),
    "coco": (113_287, 5_000, 5_000),
}
# Splits for which the paper (section 4.1) gives other counts.
IN_THE_PAPER = {"flickr30k": (29_783, 1_000, 1_000)}


@dataclass
class Settings(LinkSettings, SplitSettings):
    """Which captions and images to import."""

    json: Path
    """The captions: a .json or .json.gz file in the Karpathy layout, or COCO's own captions_*.json."""
    images: Path
    """The folder of the images."""
    out: Path
    """The dataset folder to make."""

    def __post_init__(self) -> None:
        LinkSettings.__post_init__(self)
        SplitSettings.__post_init__(self)


def main(settings: Settings) -> None:
    """Read the captions, check and link the images, write the folder."""
    if not settings.images.is_dir():
        raise UserError(f"there is no folder of images {settings.images}; check --images")
    request = request_of("from_karpathy", settings, json=sha256_of(settings.json) if settings.json.is_file() else "")
    if already_made(settings.out, request):
        return
    _refuse_other_files(settings)
    findings = Findings()
    about: dict[str, Any] = {}
    licences: set[str] = set()
    if is_coco(settings.json):
        images, found = _coco(settings, findings)
    else:
        images, found = _karpathy(settings, findings, about, licences)
    if not found.counts.total():
        raise UserError(_nothing(settings, findings))
    name = str(about.get("dataset", settings.out.name))
    source = Source(
        name,
        f"{settings.json.name} and the images of {settings.images.absolute()}",
        "; ".join(sorted(licences)) or "as at the source; not stated in the caption file",
        request,
    )
    findings.notes += count_notes(str(about.get("dataset", "")), found.counts)
    import_images(settings.out, images, found, source, settings, findings)


def _coco(settings: Settings, findings: Findings) -> tuple[Images, Survey]:
    captions = CocoCaptions(settings.json, settings.images, settings, findings)
    findings.note(
        f"{settings.json.name} says no splits, they were drawn by lot; scores that are compared with published ones "
        "need dataset_coco.json, which has Karpathy's"
    )
    return captions.images, survey(captions.images)


def _karpathy(
    settings: Settings, findings: Findings, about: dict[str, Any], licences: set[str]
) -> tuple[Images, Survey]:
    """Scan the captions, a second time where entries repeat each other."""
    keys = Keys()
    found = survey(lambda: _source_images(settings, about, licences, keys, findings=findings))
    repeated = keys.repeated()
    if repeated:
        findings.forget()
        found = survey(lambda: _source_images(settings, repeated=repeated, findings=findings))
    return lambda: _source_images(settings, repeated=repeated), found


def _refuse_other_files(settings: Settings) -> None:
    """Refuse files that another command reads.

    Raises:
        UserError: the file is a table or a shard of a data set; names the command.
    """
    path, suffix = settings.json, settings.json.suffix.lower()
    images, out = ("--images", settings.images), ("--out", settings.out)
    if not path.is_file() or suffix in (".json", ".gz"):
        return
    if suffix in (".parquet", ".tar"):
        raise UserError(f"{path} holds rows of a data set; type `{data_command('from_hub', '--files', path, *out)}`")
    if suffix == ".jsonl":
        raise UserError(
            f"{path} is JSON Lines; call it metadata.jsonl, put it beside the images, and type "
            f"`{data_command('from_imagefolder', *images, *out)}`"
        )
    line = first_line(path)
    if not line.lstrip().startswith("{"):
        what = "Flickr's .token format" if TOKEN_LINE.fullmatch(line) else "a table"
        raise UserError(f"{path} is {what}, not JSON; type `{data_command('from_csv', '--csv', path, *images, *out)}`")


def _nothing(settings: Settings, findings: Findings) -> str:
    if not findings.skipped:
        return f"{settings.json} holds no images"
    first = findings.skipped[0]
    return f"{settings.json} holds no images that can be used; the first: {first['file']} {first['reason']}"


def count_notes(name: str, counts: Mapping[str, int]) -> list[str]:
    """Compare the images of each split with the published counts, and say where the paper's differ.

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
    """Yield the entries of a caption file; the file's other values go into `about`.

    Raises:
        UserError: missing, damaged, not JSON (with the line number) or of another layout.
    """
    yield from stream_list(path, "images", about)


def _in_words(counts: tuple[int, ...]) -> str:
    return "/".join(f"{count:,}" for count in counts)


def _source_images(
    settings: Settings,
    about: dict[str, Any] | None = None,
    licences: set[str] | None = None,
    keys: Keys | None = None,
    *,
    repeated: set[int] | None = None,
    findings: Findings | None = None,
) -> Iterator[SourceImage]:
    """Yield the images that can be used.

    Args:
        settings: name the captions.
        about: receives the file's other values.
        licences: receives the licences of the images.
        keys: receives the keys that no two images may share.
        repeated: hashes of keys that several images share; all but the first of these images are left out.
        findings: counts the entries, and notes those that cannot be used.
    """
    repeats = Repeats(repeated or set())
    for index, entry in enumerate(stream_captions(settings.json, {} if about is None else about)):
        if findings is not None:
            findings.seen["rows"] += 1
        try:
            image = _source_image(entry, settings.images)
            for key in _keys(entry, image):
                if keys is not None:
                    keys.add(key)
                if owner := repeats.owner(key, f"images[{index}]"):
                    raise BadRow("repeated", f"repeats the {key[0]} of {owner}, {key[1]}")
        except BadRow as bad:
            if findings is not None:
                findings.skip(f"images[{index}]", bad.kind, str(bad))
            continue
        if licences is not None and entry.get("license"):
            licences.add(str(entry["license"]))
        yield image


def _keys(entry: dict[str, Any], image: SourceImage) -> Iterator[tuple[str, str]]:
    """Yield the keys that no two images may share."""
    yield "file", str(image.path)
    if "imgid" in entry:
        yield "imgid", str(entry["imgid"])


def _source_image(entry: Any, folder: Path) -> SourceImage:
    filename = entry.get("filename") if isinstance(entry, dict) else None
    if not isinstance(filename, str) or not filename:
        raise BadRow("no_image", "has no filename")
    beside = f"{entry['filepath']}/{filename}" if entry.get("filepath") else filename
    for name in (filename, beside):
        if not inside(name):
            raise BadRow("leads_out", f"has the filename {name!r}, which leads out of {folder}")
    split = entry.get("split")
    if not isinstance(split, str) or split not in SPLIT_OF:
        raise BadRow("split", f"has the split {split!r}; there are {', '.join(SPLIT_OF)}")
    sentences = entry.get("sentences") or []
    if not isinstance(sentences, list):
        raise BadRow("malformed", f"has sentences that are no list: {str(sentences)[:60]!r}")
    path, flat = find_file(folder, beside), find_file(folder, filename)
    path = flat if not is_there(path) and is_there(flat) else path
    return SourceImage(path, filename, SPLIT_OF[split], tuple(_sentence(sentence) for sentence in sentences))


def _sentence(entry: Any) -> tuple[str | None, object]:
    """Return the id and the text of a sentence; a value that is no text is counted and left out later."""
    if not isinstance(entry, dict):
        return None, entry
    tokens = entry.get("tokens")
    text = entry["raw"] if "raw" in entry else " ".join(map(str, tokens if isinstance(tokens, list) else []))
    sentence_id = entry.get("sentid")
    return (None if sentence_id is None else "-".join(str(sentence_id).split())), text


if __name__ == "__main__":
    run_command(main, Settings)
