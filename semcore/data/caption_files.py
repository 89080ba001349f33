"""Texts that identifiers are made from: an image's caption, and the sentences themselves."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from semcore.data.dataset import Dataset
from semcore.data.subsets import first_images
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_numbered_jsonl
from semcore.runtime.long_lists import kept, keyed, places
from semcore.runtime.repeats import Keys, first_repeat
from semcore.runtime.text import clean_text

NO_IMAGE = -1
"""The place of an image that has no caption."""


class TextItem(NamedTuple):
    """An item and its text."""

    item_id: str
    split: str
    text: str


@dataclass(frozen=True)
class Captions:
    """The captions of a dataset's images, and the images without one.

    Attributes:
        items: the images that have a caption, in the dataset's order.
        missing: ids of the images without a caption, or with an empty one.
        num_unknown: number of captions of images that are not in the dataset.
    """

    items: Sequence[TextItem]
    missing: list[str]
    num_unknown: int


def read_captions(path: Path, dataset: Dataset, limit: int | None = None) -> Captions:
    """Read captions.jsonl and match it with the images of a dataset.

    Args:
        path: one line per image, {"image_id", "caption"}.
        dataset: holds the images.
        limit: use only so many images, distributed over the splits.

    Raises:
        UserError: a malformed line, an image with two captions, or no image with a caption.
    """
    texts, known = read_texts(path), dataset.image_paths
    num_unknown = sum(image_id not in known for image_id in texts)
    records = first_images(dataset, limit)
    missing: list[str] = []

    def captioned() -> Iterator[TextItem]:
        for record in records:
            if text := texts.get(record.image_id):
                yield TextItem(record.image_id, record.split, text)
            else:
                missing.append(record.image_id)

    items = kept(captioned(), tuple, TextItem._make)
    if not items:
        raise UserError(
            f"{path} captions none of the {len(records)} images of {dataset.folder} ({len(texts)} captions, "
            f"{num_unknown} of them of other images); choose the --data or --run that belong together"
        )
    return Captions(items, missing, num_unknown)


def sentence_items(dataset: Dataset, limit: int | None = None) -> Sequence[TextItem]:
    """Return the sentences as items, including those of images without a caption."""
    items = (
        TextItem(sentence.sentence_id, record.split, sentence.text)
        for record in first_images(dataset, limit)
        for sentence in record.sentences
    )
    return kept(items, tuple, TextItem._make)


def image_of_sentences(dataset: Dataset, captions: Sequence[TextItem], limit: int | None = None) -> Sequence[int]:
    """Return the place of each sentence's image among `captions`, or `NO_IMAGE`; in the order of `sentence_items`."""
    place_of = places(captions, lambda item: item.item_id)

    def numbers() -> Iterator[int]:
        for record in first_images(dataset, limit):
            place = place_of(record.image_id) if record.sentences else None
            for _ in record.sentences:
                yield NO_IMAGE if place is None else place

    return array("i", numbers())


def read_texts(path: Path) -> Mapping[str, str]:
    """Return image id -> caption of a file like captions.jsonl.

    Raises:
        UserError: a malformed line, or an image with two captions.
    """
    keys = Keys()

    def noted() -> Iterator[tuple[str, str]]:
        for number, row in read_numbered_jsonl(path):
            image_id, caption = _caption(path, number, row)
            keys.add(image_id)
            yield image_id, clean_text(caption)

    try:
        pairs = kept(noted())
    except UserError:
        _refuse_second_captions(path, keys.repeated())  # a mistake further up comes first
        raise
    _refuse_second_captions(path, keys.repeated())
    return keyed(pairs, itemgetter(0), itemgetter(1))


def _caption(path: Path, number: int, row: dict[str, Any]) -> tuple[str, str]:
    image_id, caption = row.get("image_id"), row.get("caption")
    if not isinstance(image_id, str) or not isinstance(caption, str):
        raise UserError(f"{path}, line {number}: image_id and caption are needed, both text; found {str(row)[:200]}")
    return image_id, caption


def _refuse_second_captions(path: Path, hashes: set[int]) -> None:
    ids = ((number, _caption(path, number, row)[0]) for number, row in read_numbered_jsonl(path))
    if found := first_repeat(ids, hashes):
        image_id, number, _ = found
        raise UserError(f"{path}, line {number}: image {image_id} has a second caption; delete one of the lines")
