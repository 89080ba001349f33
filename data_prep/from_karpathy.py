"""Make a dataset folder from captions in the Karpathy layout (MSCOCO, Flickr30K) and a folder of images.

    python -m data_prep.from_karpathy --json dataset_coco.json --images coco/ --out data/coco

The JSON file (or .json.gz) holds images[].filename, .split, .sentences[].raw; split restval counts as
train. An image lies at IMAGES/filename or at IMAGES/filepath/filename. Images that cannot be read, images
without sentences and empty sentences are counted, listed and left out.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.importing import SourceImage, import_images, inside
from data_prep.writing import check_limit
from semcore.commandline import run_command
from semcore.errors import UserError
from semcore.files import sha256_of

SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}


@dataclass
class Settings:
    """Which captions and images to import."""

    json: Path
    """The captions: a .json or .json.gz file in the Karpathy layout."""
    images: Path
    """The folder of the images."""
    out: Path
    """The dataset folder to make."""
    copy: bool = False
    """Copy the images; the default links them."""
    limit: int | None = None
    """Import at most so many images, shared out over the splits."""

    def __post_init__(self) -> None:
        check_limit(self.limit)


def main(settings: Settings) -> None:
    """Read the captions, check and link the images, write the folder."""
    if not settings.images.is_dir():
        raise UserError(f"there is no folder of images {settings.images}; check --images")
    document = read_captions(settings.json)
    images = list(_source_images(document, settings.json, settings.images))
    import_images(
        settings.out,
        images,
        name=str(document.get("dataset", settings.out.name)),
        source=f"{settings.json.name} and the images of {settings.images.absolute()}",
        licence=_licences(document["images"]),
        request={
            "command": "from_karpathy",
            "json_sha256": sha256_of(settings.json),
            "images": settings.images.absolute(),
        },
        copy=settings.copy,
        limit=settings.limit,
    )


def read_captions(path: Path) -> dict[str, Any]:
    """Read a caption file and check that it has the layout's outer form.

    Raises:
        UserError: missing, damaged, not JSON (with the line number) or of another layout.
    """
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as handle:
            document = json.load(handle, object_hook=_without_tokens)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check --json") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; is it a caption file?") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise UserError(f"{path} is not in the Karpathy layout: it has no list 'images'")
    if not document["images"]:
        raise UserError(f"{path} holds no images")
    return document


def _without_tokens(entry: dict[str, Any]) -> dict[str, Any]:
    """Drop the words of a sentence beside its text: they are most of the memory a large file takes."""
    if "raw" in entry:
        entry.pop("tokens", None)
    return entry


def _source_images(document: dict[str, Any], path: Path, folder: Path) -> Iterator[SourceImage]:
    first_at: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(document["images"]):
        try:
            image = _source_image(entry, folder)
            for key in (("file", str(image.path)), ("imgid", str(entry.get("imgid", f"none {index}")))):
                if first_at.setdefault(key, index) != index:
                    raise ValueError(f"repeats the {key[0]} of images[{first_at[key]}], {key[1]}")
        except ValueError as error:
            raise UserError(f"{path}: images[{index}] {error}") from None
        yield image


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
    path = folder / beside if (folder / beside).exists() else folder / filename
    return SourceImage(path, filename, SPLIT_OF[split], tuple(_sentence(sentence) for sentence in sentences))


def _sentence(entry: Any) -> tuple[str | None, str]:
    if not isinstance(entry, dict):
        raise ValueError(f"has a sentence that is no object: {entry!r}")
    text = entry.get("raw", " ".join(map(str, entry.get("tokens", []))))
    if not isinstance(text, str):
        raise ValueError(f"has a sentence whose raw is no text: {text!r}")
    sentence_id = entry.get("sentid")
    return (None if sentence_id is None else "-".join(str(sentence_id).split())), text


def _licences(entries: list[dict[str, Any]]) -> str:
    named = sorted({str(entry["license"]) for entry in entries if entry.get("license")})
    return "; ".join(named) if named else "as at the source; not stated in the caption file"


if __name__ == "__main__":
    run_command(main, Settings)
