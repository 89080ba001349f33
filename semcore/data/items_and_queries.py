"""Items with their identifiers, and queries with their relevant items.

Direction t2i retrieves images by sentences, i2t retrieves sentences by images.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from semcore.data.dataset import Dataset, ImageRecord, shared_sentences
from semcore.data.directions import Direction
from semcore.data.identifier_files import IdentifierRow, read_identifiers
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.runtime.long_lists import are_many, chosen, kept, keyed


@dataclass(frozen=True)
class Item:
    """An image or a sentence that can be retrieved.

    Attributes:
        item_id: its id in the dataset.
        image_id: the image itself, or the one that a sentence was written about.
        identifier: the text that the model generates to retrieve it.
        keywords: the words of its lexical id, as in verification prompts.
        text: the sentence; empty for an image.
        image_path: the image; None for a sentence.
        more: further texts that retrieve it.
    """

    item_id: str
    image_id: str
    identifier: str
    keywords: str
    text: str = ""
    image_path: Path | None = None
    more: tuple[str, ...] = ()

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Return every text that the model generates to retrieve it."""
        return (self.identifier, *self.more)


@dataclass(frozen=True)
class Queries:
    """The queries of one split and direction.

    Attributes:
        contents: query id -> its sentence (t2i) or its image's id (i2t), for queries that are searched.
        display: query id -> the sentence (t2i) or the image's file name (i2t).
        relevant: query id -> the ids of its relevant items, for every query.
        unanswerable: queries whose relevant items have no identifier, or whose image cannot be read (these are not
            searched). They count as misses.
        num_shared_sentences: number of sentences that another of these images has word for word too; no search can
            tell them apart, and they are ranked in the order of the identifier file.
    """

    contents: dict[str, str]
    display: dict[str, str]
    relevant: dict[str, set[str]]
    unanswerable: frozenset[str] = frozenset()
    num_shared_sentences: int = 0

    def only(self, kept: Iterable[str]) -> Queries:
        """Return the given queries, in the given order."""
        kept = list(kept)
        return Queries(
            {query: self.contents[query] for query in kept if query in self.contents},
            {query: self.display[query] for query in kept},
            {query: self.relevant[query] for query in kept},
            self.unanswerable.intersection(kept),
            self.num_shared_sentences,
        )


def read_items(run: RunFolder, dataset: Dataset, direction: Direction, split: str | None = None) -> Sequence[Item]:
    """Read one direction's items, in the order of the identifier file; many of them stay on the disk.

    Args:
        run: holds the identifiers.
        dataset: holds the images and sentences.
        direction: which items.
        split: "train", "val" or "test"; all by default.

    Raises:
        UserError: there are no identifiers, or they are of another dataset.
    """
    find = _image_item(run, dataset) if direction.items_are_images else _sentence_item(run, dataset)
    return kept(map(find, read_identifiers(run / "identifiers", direction, split)), _plain, _from_plain)


def items_by_id(items: Sequence[Item]) -> Mapping[str, Item]:
    """Return item id -> item, in their order."""
    return keyed(items, lambda item: item.item_id)


def num_identifiers(items: Mapping[str, Item]) -> int:
    """Return how many different identifiers items have; among many, counted by 64-bit hashes."""
    if are_many(items):
        return len(np.unique(np.fromiter((hash(item.identifier) for item in items.values()), np.int64, len(items))))
    return len({item.identifier for item in items.values()})


def _image_item(run: RunFolder, dataset: Dataset) -> Callable[[IdentifierRow], Item]:
    """Return the function that makes an image's row an item."""
    paths = dataset.image_paths

    def make(row: IdentifierRow) -> Item:
        item_id, more = row["item_id"], tuple(row.get("more", ()))
        path = paths.get(item_id)
        if path is None:
            raise _foreign(run, dataset, Direction.T2I, item_id)
        return Item(item_id, item_id, row["identifier"], " ".join(row["lexical_id"]), image_path=path, more=more)

    return make


def _sentence_item(run: RunFolder, dataset: Dataset) -> Callable[[IdentifierRow], Item]:
    """Return the function that makes a sentence's row an item."""
    said = ((own.sentence_id, record.image_id, own.text) for record in dataset.images for own in record.sentences)
    sentences = keyed(kept(said), itemgetter(0))

    def make(row: IdentifierRow) -> Item:
        item_id, more = row["item_id"], tuple(row.get("more", ()))
        if (found := sentences.get(item_id)) is None:
            raise _foreign(run, dataset, Direction.I2T, item_id)
        _, image_id, text = found
        return Item(item_id, image_id, row["identifier"], " ".join(row["lexical_id"]), text=text, more=more)

    return make


def _foreign(run: RunFolder, dataset: Dataset, direction: Direction, item_id: str) -> UserError:
    return UserError(
        f"{run / 'identifiers' / direction}.jsonl has {item_id!r}, which is not in {dataset.folder}; "
        "choose the --data or --run that belong together"
    )


def _plain(item: Item) -> tuple[Any, ...]:
    path = None if item.image_path is None else str(item.image_path)
    return item.item_id, item.image_id, item.identifier, item.keywords, item.text, path, item.more


def _from_plain(content: tuple[Any, ...]) -> Item:
    item_id, image_id, identifier, keywords, text, path, more = content
    return Item(item_id, image_id, identifier, keywords, text, None if path is None else Path(path), more)


def read_queries(
    records: Sequence[ImageRecord],
    direction: Direction,
    images: Sequence[Item],
    sentences: Sequence[Item],
    unreadable: Collection[str] = (),
    most: int | None = None,
) -> Queries:
    """Return the queries of some images: their sentences (t2i), or the images themselves (i2t).

    Every sentence, and every image with a sentence, is a query, whether its answer has an identifier or not.

    Args:
        records: the images.
        direction: which items.
        images: the items of t2i.
        sentences: the items of i2t.
        unreadable: ids of images that cannot be used as queries.
        most: draw so many queries at random where there are more, as `draw_queries` does; all by default.
    """
    known, num_shared = items_by_id(images if direction.items_are_images else sentences), _num_shared(records)
    drawn = None if most is None else _draw_ids(records, direction, most)
    if drawn is not None:
        wanted = drawn
        records = chosen(records, lambda record: not wanted.isdisjoint(_query_ids(record, direction)))
    display: dict[str, str] = {}
    relevant: dict[str, set[str]] = {}
    contents: dict[str, str] = {}
    for record in records:
        texts = {sentence.sentence_id: sentence.text for sentence in record.sentences}
        if direction.items_are_images:
            contents |= texts
            display |= texts
            relevant |= {sentence_id: {record.image_id} for sentence_id in texts}
        elif texts:
            contents[record.image_id] = record.image_id
            display[record.image_id] = record.file_name
            relevant[record.image_id] = {own for own in texts if own in known} or set(texts)
    if direction.queries_are_images:
        contents = {query: content for query, content in contents.items() if query not in unreadable}
    lost = {
        query
        for query, answers in relevant.items()
        if query not in contents or not any(answer in known for answer in answers)
    }
    queries = Queries(contents, display, relevant, frozenset(lost), num_shared)
    return queries if drawn is None else queries.only(query for query in relevant if query in drawn)


def _num_shared(records: Sequence[ImageRecord]) -> int:
    return sum(len(sentence_ids) for sentence_ids in shared_sentences(records).values())


def _query_ids(record: ImageRecord, direction: Direction) -> list[str]:
    """Return the ids of an image's queries."""
    if direction.items_are_images:
        return [sentence.sentence_id for sentence in record.sentences]
    return [record.image_id] if record.sentences else []


def _draw_ids(records: Sequence[ImageRecord], direction: Direction, most: int, seed: int = 0) -> set[str] | None:
    """Return the ids that `draw_queries` draws from the queries of some images; None where it takes all.

    Ids are sorted as bytes in UTF-8, which is the order of their letters, at as many bytes each as the longest has.
    """
    number = width = 0
    for record in records:
        for query in _query_ids(record, direction):
            number, width = number + 1, max(width, len(query.encode()))
    if most >= number:
        return None
    ids = (query.encode() for record in records for query in _query_ids(record, direction))
    in_order = np.fromiter(ids, f"S{width}", number)
    in_order.sort()
    return {in_order[place].decode() for place in random.Random(seed).sample(range(number), most)}


def image_of(direction: Direction, query: str, relevant: Collection[str]) -> str:
    """Return the image that a query belongs to: the one a sentence was written about, or the query itself."""
    return query if direction.queries_are_images else next(iter(relevant))


def draw_queries(queries: Queries, most: int | None, seed: int = 0) -> Queries:
    """Return the queries, or `most` of them drawn at random, in their order."""
    if most is None or most >= len(queries.relevant):
        return queries
    chosen = set(random.Random(seed).sample(sorted(queries.relevant), most))
    return queries.only(query for query in queries.relevant if query in chosen)
