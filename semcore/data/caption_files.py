"""Texts that identifiers are made from: an image's caption, and the sentences themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from semcore.data.dataset import Dataset
from semcore.data.subsets import first_images
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_numbered_jsonl
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

    items: list[TextItem]
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
    texts = read_texts(path)
    num_unknown = len(texts.keys() - {record.image_id for record in dataset.images})
    records = first_images(dataset, limit)
    items = [
        TextItem(record.image_id, record.split, texts[record.image_id])
        for record in records
        if texts.get(record.image_id)
    ]
    if not items:
        raise UserError(
            f"{path} captions none of the {len(records)} images of {dataset.folder} ({len(texts)} captions, "
            f"{num_unknown} of them of other images); choose the --data or --run that belong together"
        )
    missing = [record.image_id for record in records if not texts.get(record.image_id)]
    return Captions(items, missing, num_unknown)


def sentence_items(dataset: Dataset, limit: int | None = None) -> list[TextItem]:
    """Return the sentences as items, including those of images without a caption."""
    return [
        TextItem(sentence.sentence_id, record.split, sentence.text)
        for record in first_images(dataset, limit)
        for sentence in record.sentences
    ]


def image_of_sentences(dataset: Dataset, captions: Sequence[TextItem], limit: int | None = None) -> list[int]:
    """Return the place of each sentence's image among `captions`, or `NO_IMAGE`; in the order of `sentence_items`."""
    places = {item.item_id: place for place, item in enumerate(captions)}
    return [places.get(record.image_id, NO_IMAGE) for record in first_images(dataset, limit) for _ in record.sentences]


def read_texts(path: Path) -> dict[str, str]:
    """Return image id -> caption of a file like captions.jsonl.

    Raises:
        UserError: a malformed line, or an image with two captions.
    """
    texts: dict[str, str] = {}
    for number, row in read_numbered_jsonl(path):
        image_id, caption = row.get("image_id"), row.get("caption")
        if not isinstance(image_id, str) or not isinstance(caption, str):
            raise UserError(
                f"{path}, line {number}: image_id and caption are needed, both text; found {str(row)[:200]}"
            )
        if image_id in texts:
            raise UserError(f"{path}, line {number}: image {image_id} has a second caption; delete one of the lines")
        texts[image_id] = clean_text(caption)
    return texts
