"""Make a dataset folder from a tree of image files, with or without sentences about them.

    python -m data_prep.from_imagefolder --images photos/ --out data/photos

Every .jpg, .jpeg, .png, .webp, .bmp, .gif, .tif and .tiff below IMAGES is taken, hidden files apart.
Splits: the folders IMAGES/train, IMAGES/val (also valid, validation, dev) and IMAGES/test where they
exist; else a drawing by lot with --val-share and --test-share.
Sentences, where there are any:
  - metadata.jsonl in any folder of the tree, a line an image: {"file_name": "relative/to/it.jpg",
    "text": "one sentence"}, or "sentences": a list of texts or of {"sentence_id", "text"};
  - otherwise photo.txt beside photo.jpg, one sentence a line.
If any image has a sentence, images without one are left out; if none has, all are kept, and the folder
serves as something to search but not to train on. Images that metadata.jsonl names and that are not there
are counted and named, and nothing is made, unless --skip-missing leaves them out.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.importing import LinkSettings, import_images, request_of
from data_prep.pictures import IMAGE_SUFFIXES, SourceImage, inside, survey
from data_prep.splits import SPLIT_NAMES, SplitSettings, draw_splits
from data_prep.writing import Findings, Source, already_made
from semcore.commandline import run_command
from semcore.errors import UserError
from semcore.files import read_numbered_jsonl

METADATA = "metadata.jsonl"
Sentences = tuple[tuple[str | None, str], ...]


@dataclass
class Settings(LinkSettings, SplitSettings):
    """Which images to import, and how to split them."""

    images: Path
    """The folder of images."""
    out: Path
    """The dataset folder to make."""

    def __post_init__(self) -> None:
        LinkSettings.__post_init__(self)
        SplitSettings.__post_init__(self)


def main(settings: Settings) -> None:
    """Find images, splits and sentences, check and link the images, write the folder."""
    root = settings.images
    if not root.is_dir():
        raise UserError(f"there is no folder of images {root}; check --images")
    if settings.out.resolve().is_relative_to(root.resolve()):
        raise UserError(f"--out {settings.out} lies in --images {root}; choose a place outside of it")
    files = _files_below(root)
    names = [name for name in files if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    if not names:
        raise UserError(f"there is no image in {root}; looked for {', '.join(IMAGE_SUFFIXES)}")
    spoken = _sentences(root, files)
    names = sorted({*names, *spoken})  # what is spoken of but not there is reported as missing
    splits = _splits(names, settings)
    images = [SourceImage(root / name, name, splits[name], spoken.get(name, ())) for name in names if name in splits]
    request = request_of("from_imagefolder", settings, files=_fingerprint(root, files))
    if already_made(settings.out, request):
        return
    findings = Findings()
    for name in names:
        if name not in splits:
            findings.skip(name, "outside", "outside of the folders of the splits")
    found = survey(lambda: iter(images))
    source = Source(settings.out.name, str(root.absolute()), "as at the source; not stated", request)
    import_images(settings.out, lambda: iter(images), found, source, settings, findings, keep_bare=not spoken)


def _files_below(root: Path) -> list[str]:
    """Return the paths of all files, relative to the root, in order, hidden ones left out."""
    found: list[str] = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = Path(folder).relative_to(root)
        found += [(relative / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)


def _splits(names: list[str], settings: Settings) -> dict[str, str]:
    """Return name -> split; with split folders, what lies outside of them has none."""
    tops = {name: name.split("/")[0] for name in names if "/" in name}
    by_folder = {name: SPLIT_NAMES[top] for name, top in tops.items() if top in SPLIT_NAMES}
    if by_folder:
        return by_folder
    return draw_splits(names, settings)


def _sentences(root: Path, files: list[str]) -> dict[str, Sentences]:
    """Return name of the image -> what is said about it, for all images of which something is said."""
    there = set(files)
    spoken: dict[str, Sentences] = {}
    for name in files:
        if Path(name).suffix.lower() in IMAGE_SUFFIXES:
            beside = Path(name).with_suffix(".txt").as_posix()
            if beside in there:
                spoken[name] = tuple((None, line) for line in _read_lines(root / beside))
    for name in files:
        if Path(name).name == METADATA:
            spoken.update(_read_metadata(root, name))
    return spoken


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None


def _read_metadata(root: Path, name: str) -> dict[str, Sentences]:
    spoken: dict[str, Sentences] = {}
    for number, row in read_numbered_jsonl(root / name):
        try:
            image = (Path(name).parent / _file_name(row)).as_posix()
            if image in spoken:
                raise ValueError(f"repeats file_name {row['file_name']!r}")
            spoken[image] = _row_sentences(row)
        except ValueError as error:
            raise UserError(f"{root / name}, line {number}: {error}") from None
    return spoken


def _file_name(row: dict[str, Any]) -> str:
    file_name = row.get("file_name")
    if not isinstance(file_name, str) or not file_name:
        raise ValueError("has no file_name")
    if not inside(file_name):
        raise ValueError(f"file_name {file_name!r} leads out of the folder")
    return file_name


def _row_sentences(row: dict[str, Any]) -> Sentences:
    given = row.get("sentences", row.get("text", []))
    entries = [given] if isinstance(given, str) else given
    if not isinstance(entries, list):
        raise ValueError(f"needs text or a list of sentences, found {given!r}")
    return tuple(_sentence(entry) for entry in entries)


def _sentence(entry: Any) -> tuple[str | None, str]:
    if isinstance(entry, str):
        return None, entry
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise ValueError(f"a sentence is a text or holds 'text', found {entry!r}")
    sentence_id = entry.get("sentence_id")
    return (None if sentence_id is None else "-".join(str(sentence_id).split())), entry["text"]


def _fingerprint(root: Path, files: list[str]) -> str:
    """Hash the names, sizes and times of the files: a changed tree is another request."""
    digest = hashlib.sha256()
    for name in files:
        status = (root / name).lstat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


if __name__ == "__main__":
    run_command(main, Settings)
