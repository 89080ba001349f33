"""What can be retrieved and what is asked: items with their identifiers, queries with what is right.

Direction t2i asks with sentences for images, i2t with images for sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semcore.dataset import Dataset, ImageRecord, shared_sentences
from semcore.errors import UserError
from semcore.identifiers import read_identifiers
from semcore.runfolder import RunFolder

DIRECTIONS = ("t2i", "i2t")


@dataclass(frozen=True)
class Item:
    """An image or a sentence that can be found.

    Attributes:
        item_id: its id in the dataset.
        image_id: the image it is, or was written about.
        identifier: what the model generates to find it.
        keywords: the words of its lexical id, as verification shows them.
        text: the sentence; empty for an image.
        image_path: the image; None for a sentence.
    """

    item_id: str
    image_id: str
    identifier: str
    keywords: str
    text: str = ""
    image_path: Path | None = None


@dataclass(frozen=True)
class Queries:
    """The queries of one split and direction.

    Attributes:
        contents: query id -> the sentence (t2i) or the image's id (i2t).
        shown: query id -> the sentence (t2i) or the image's file name (i2t).
        right: query id -> the ids of the items that answer it.
        num_skipped: queries left out because the image has no identifier, or no sentence does.
        num_shared_sentences: sentences of these images that stand word for word under another of them too; no
            search can tell them apart, and they are ranked in the order of the identifier file.
    """

    contents: dict[str, str]
    shown: dict[str, str]
    right: dict[str, set[str]]
    num_skipped: int = 0
    num_shared_sentences: int = 0


def read_items(run: RunFolder, dataset: Dataset, direction: str, split: str | None = None) -> list[Item]:
    """Read one direction's items, in the order of the identifier file.

    Args:
        run: holds the identifiers.
        dataset: holds the images and sentences.
        direction: "t2i" or "i2t".
        split: "train", "val" or "test"; all by default.

    Raises:
        UserError: there are no identifiers, or they are of another dataset.
    """
    records = {record.image_id: record for record in dataset.images}
    sentences = {s.sentence_id: (record, s.text) for record in dataset.images for s in record.sentences}
    items = []
    for row in read_identifiers(run / "identifiers", direction, split):
        item_id, keywords = row["item_id"], " ".join(row["lexical_id"])
        if item_id not in (records if direction == "t2i" else sentences):
            raise UserError(
                f"{run / 'identifiers' / direction}.jsonl has {item_id!r}, which is not in {dataset.folder}; "
                "choose the --data or --run that belong together"
            )
        if direction == "t2i":
            path = dataset.image_path(records[item_id])
            items.append(Item(item_id, item_id, row["identifier"], keywords, image_path=path))
        else:
            record, text = sentences[item_id]
            items.append(Item(item_id, record.image_id, row["identifier"], keywords, text=text))
    return items


def read_queries(
    records: Sequence[ImageRecord], direction: str, images: Sequence[Item], sentences: Sequence[Item]
) -> Queries:
    """Return the queries of some images: their sentences (t2i), or the images themselves (i2t).

    Args:
        records: whose queries are wanted.
        direction: "t2i" or "i2t".
        images: the items of t2i; an image that is none of them is not asked for, nor with.
        sentences: the items of i2t.
    """
    known_images, known_sentences = ({item.item_id for item in items} for items in (images, sentences))
    contents: dict[str, str] = {}
    shown: dict[str, str] = {}
    right: dict[str, set[str]] = {}
    num_skipped = 0
    for record in records:
        own = {sentence.sentence_id: sentence.text for sentence in record.sentences}
        answers = own.keys() & known_sentences
        if record.image_id not in known_images or (direction == "i2t" and not answers):
            num_skipped += len(own) if direction == "t2i" else 1
        elif direction == "t2i":
            contents.update(own)
            shown.update(own)
            right.update((sentence_id, {record.image_id}) for sentence_id in own)
        else:
            contents[record.image_id] = record.image_id
            shown[record.image_id] = record.file_name
            right[record.image_id] = set(answers)
    num_shared = sum(len(sentence_ids) for sentence_ids in shared_sentences(records).values())
    return Queries(contents, shown, right, num_skipped, num_shared)
