"""Dataset folder: images, the sentences people wrote about them, and their splits.

    DATA/images/<image_id>.<ext>
    DATA/metadata.jsonl    one line per image
    DATA/dataset.json      name, source, licence, counts, sha256 of metadata.jsonl

Items of direction t2i are images (item_id = image_id), items of i2t are sentences
(item_id = sentence_id).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from semcore.data.images import open_image, verify_image
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_jsonl, read_numbered_jsonl, sha256_of, write_json, write_jsonl
from semcore.runtime.long_lists import Chosen, kept, keyed
from semcore.runtime.repeats import Keys, first_repeat
from semcore.runtime.text import UNSEEN, clean_text

__all__ = [
    "SPLITS",
    "Dataset",
    "ImageRecord",
    "Sentence",
    "is_safe_id",
    "load_dataset",
    "make_safe_id",
    "open_image",
    "read_json",
    "read_jsonl",
    "sha256_of",
    "verify_image",
    "write_json",
    "write_jsonl",
]

SPLITS = ("train", "val", "test")
METADATA = "metadata.jsonl"
WAYS = (
    "make one with data_prep's from_karpathy, from_imagefolder, from_csv, from_hub or make_scenes: "
    "`python -m data_prep.from_imagefolder --help` and the like say how"
)
MAX_ID_LETTERS = 180  # a file name may have 255 bytes
# `datasets.load_dataset("imagefolder")` takes these words, between delimiters anywhere in a path,
# for a split's name, and then silently drops all metadata.
SPLIT_WORDS = (
    "training", "train", "validation", "valid", "val", "dev", "testing", "test", "evaluation", "eval",
)  # fmt: skip
_SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(SPLIT_WORDS)})(?![a-z])", re.IGNORECASE)
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Sentence:
    """A sentence a person wrote about an image; an item of direction i2t."""

    sentence_id: str
    text: str


@dataclass(frozen=True)
class ImageRecord:
    """An image and its sentences; an item of direction t2i.

    Attributes:
        image_id: safe as a file name and in TREC files.
        file_name: relative to the dataset folder.
        split: "train", "val" or "test".
        sentences: the sentences about it, possibly none.
        source_file: its name in the source.
    """

    image_id: str
    file_name: str
    split: str
    sentences: tuple[Sentence, ...]
    source_file: str


@dataclass(frozen=True)
class Dataset:
    """A dataset folder that was read and validated.

    Attributes:
        folder: its path.
        name: from dataset.json.
        images: in the order of metadata.jsonl; many of them lie on the disk (`semcore.runtime.long_lists`).
        fingerprint: sha256 of metadata.jsonl.
    """

    folder: Path
    name: str
    images: Sequence[ImageRecord]
    fingerprint: str

    def split(self, name: str) -> Sequence[ImageRecord]:
        """Return the images of "train", "val" or "test"."""
        if name not in SPLITS:
            raise UserError(f"there is no split {name!r}; choose one of {', '.join(SPLITS)}")
        if isinstance(self.images, list):
            return [record for record in self.images if record.split == name]
        return Chosen(self.images, self._places[name])

    def image_path(self, record: ImageRecord) -> Path:
        """Return the path of the image."""
        return self.folder / record.file_name

    @cached_property
    def _places(self) -> dict[str, array[int]]:
        """Return split -> the places of its images."""
        places: dict[str, array[int]] = {split: array("i") for split in SPLITS}
        for place, record in enumerate(self.images):
            places.setdefault(record.split, array("i")).append(place)
        return places

    @cached_property
    def image_paths(self) -> Mapping[str, Path]:
        """Return image id -> where the picture lies, of all pictures."""
        return keyed(self.images, lambda record: record.image_id, self.image_path)


def shared_sentences(images: Sequence[ImageRecord]) -> dict[str, list[str]]:
    """Return text -> ids of its sentences, in order, for texts that more than one image has word for word.

    No search can tell such sentences apart: they share one identifier, and are ranked in the dataset's order.
    """
    texts = Keys()
    for record in images:
        for sentence in record.sentences:
            texts.add(sentence.text)
    hashes = texts.repeated()
    places: dict[str, list[tuple[str, str]]] = {}
    for record in images if hashes else ():
        for sentence in record.sentences:
            if hash(sentence.text) in hashes:
                places.setdefault(sentence.text, []).append((record.image_id, sentence.sentence_id))
    return {
        text: [sentence_id for _, sentence_id in own]
        for text, own in places.items()
        if len({image_id for image_id, _ in own}) > 1
    }


def load_dataset(folder: Path | str) -> Dataset:
    """Read a dataset folder and check every line of its metadata; images are not opened.

    Blank sentences are left out.

    Raises:
        UserError: the folder is missing or empty, or a line is malformed, repeats an id, holds an
            unsafe id or points outside of the folder (with the file and the line number).
    """
    folder = Path(folder)
    metadata = folder / METADATA
    if not folder.is_dir():
        raise UserError(f"there is no dataset folder {folder}; {WAYS}")
    if not metadata.is_file():
        raise UserError(f"{folder} is no dataset folder, it has no {METADATA}; {WAYS}")
    images = _read_records(metadata)
    if not images:
        raise UserError(f"{metadata} is empty; make the dataset again with one of the data_prep commands")
    about = read_json(folder / "dataset.json") if (folder / "dataset.json").exists() else {}
    return Dataset(folder, str(about.get("name", folder.resolve().name)), images, sha256_of(metadata))


def _read_records(metadata: Path) -> Sequence[ImageRecord]:
    keys = Keys()

    def records() -> Iterator[ImageRecord]:
        for number, row in read_numbered_jsonl(metadata):
            record = _numbered_record(metadata, number, row)
            for key in _ids(record):
                keys.add(key)
            yield record

    try:
        images = kept(records(), _plain, _from_plain)
    except UserError:
        _refuse_repeats(metadata, keys.repeated())  # a mistake further up comes first
        raise
    _refuse_repeats(metadata, keys.repeated())
    return images


def _numbered_record(metadata: Path, number: int, row: dict[str, Any]) -> ImageRecord:
    try:
        return _to_record(row)
    except ValueError as error:
        raise UserError(f"{metadata}, line {number}: {error}") from None


def _ids(record: ImageRecord) -> list[tuple[str, str]]:
    """Return what no other line may have."""
    return [
        ("image_id", record.image_id),
        ("file_name", record.file_name),
        *(("sentence_id", sentence.sentence_id) for sentence in record.sentences),
    ]


def _refuse_repeats(metadata: Path, hashes: set[int]) -> None:
    """Refuse the first line that has an id of an earlier one, among the ids of these hashes."""
    rows = read_numbered_jsonl(metadata)
    ids = ((number, key) for number, row in rows for key in _ids(_numbered_record(metadata, number, row)))
    if found := first_repeat(ids, hashes):
        (kind, value), number, first = found
        raise UserError(f"{metadata}, line {number}: {kind} {value!r} is already used in line {first}")


def _plain(record: ImageRecord) -> tuple[Any, ...]:
    said = tuple((sentence.sentence_id, sentence.text) for sentence in record.sentences)
    return record.image_id, record.file_name, record.split, said, record.source_file


def _from_plain(content: tuple[Any, ...]) -> ImageRecord:
    image_id, file_name, split, said, source_file = content
    return ImageRecord(image_id, file_name, split, tuple(Sentence(*own) for own in said), source_file)


def _to_record(row: dict[str, Any]) -> ImageRecord:
    image_id, file_name, split = (_text(row, key) for key in ("image_id", "file_name", "split"))
    if not is_safe_id(image_id):
        raise ValueError(f"image_id {image_id!r} is not safe; use letters, digits, - and _, and no split's name")
    if file_name.startswith("/") or ".." in file_name.split("/"):
        raise ValueError(f"file_name {file_name!r} leads out of the dataset folder")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    sentences = tuple(_to_sentence(entry) for entry in _list(row, "sentences"))
    kept = tuple(sentence for sentence in sentences if sentence.text)
    return ImageRecord(image_id, file_name, split, kept, str(row.get("source_file", file_name)))


def _to_sentence(entry: Any) -> Sentence:
    if not isinstance(entry, dict):
        raise ValueError(f"a sentence needs sentence_id and text, found {entry!r}")
    sentence_id = _text(entry, "sentence_id")
    if sentence_id.split() != [sentence_id]:
        raise ValueError(f"sentence_id {sentence_id!r} holds white space")
    if UNSEEN.search(sentence_id):
        raise ValueError(f"sentence_id {sentence_id!r} holds a character that is not seen")
    text = entry.get("text")
    if not isinstance(text, str):
        raise ValueError(f"the text of sentence {sentence_id!r} is {text!r}, not text")
    return Sentence(sentence_id, clean_text(text))


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} is missing" if value is None else f"{key} is {value!r}, not text")
    return value


def _list(row: dict[str, Any], key: str) -> list[Any]:
    value = row.get(key, [])
    if not isinstance(value, list):
        raise ValueError(f"{key} is {value!r}, not a list")
    return value


def is_safe_id(text: str) -> bool:
    """Return whether an id has only letters, digits, - and _, and no tool takes it for a split's name."""
    return _SAFE_ID.fullmatch(text) is not None and _SPLIT_WORD.search(text) is None


def make_safe_id(text: str) -> str:
    """Return an id of letters, digits, - and _ that no tool takes for a split's name.

    >>> make_safe_id("COCO_val2014_000000000042")
    'COCO_xval2014_000000000042'
    """
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:MAX_ID_LETTERS] or "x"
    return _SPLIT_WORD.sub(r"x\1", safe)
