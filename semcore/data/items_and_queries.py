"""Items with their identifiers, and queries with their relevant items.

Direction t2i retrieves images by sentences, i2t retrieves sentences by images.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from semcore.data.dataset import Dataset, ImageRecord, shared_sentences
from semcore.data.directions import Direction
from semcore.data.identifier_files import read_identifiers
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError


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


def read_items(run: RunFolder, dataset: Dataset, direction: Direction, split: str | None = None) -> list[Item]:
    """Read one direction's items, in the order of the identifier file.

    Args:
        run: holds the identifiers.
        dataset: holds the images and sentences.
        direction: which items.
        split: "train", "val" or "test"; all by default.

    Raises:
        UserError: there are no identifiers, or they are of another dataset.
    """
    sentences: dict[str, tuple[ImageRecord, str]] = {}
    if not direction.items_are_images:
        sentences = {s.sentence_id: (record, s.text) for record in dataset.images for s in record.sentences}
    items = []
    for row in read_identifiers(run / "identifiers", direction, split):
        item_id, keywords, more = row["item_id"], " ".join(row["lexical_id"]), tuple(row.get("more", ()))
        if item_id not in (dataset.image_paths if direction.items_are_images else sentences):
            raise UserError(
                f"{run / 'identifiers' / direction}.jsonl has {item_id!r}, which is not in {dataset.folder}; "
                "choose the --data or --run that belong together"
            )
        if direction.items_are_images:
            path = dataset.image_paths[item_id]
            items.append(Item(item_id, item_id, row["identifier"], keywords, image_path=path, more=more))
        else:
            record, text = sentences[item_id]
            items.append(Item(item_id, record.image_id, row["identifier"], keywords, text=text, more=more))
    return items


def read_queries(
    records: Sequence[ImageRecord],
    direction: Direction,
    images: Sequence[Item],
    sentences: Sequence[Item],
    unreadable: Collection[str] = (),
) -> Queries:
    """Return the queries of some images: their sentences (t2i), or the images themselves (i2t).

    Every sentence, and every image with a sentence, is a query, whether its answer has an identifier or not.

    Args:
        records: the images.
        direction: which items.
        images: the items of t2i.
        sentences: the items of i2t.
        unreadable: ids of images that cannot be used as queries.
    """
    known = {item.item_id for item in (images if direction.items_are_images else sentences)}
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
            relevant[record.image_id] = texts.keys() & known or set(texts)
    if direction.queries_are_images:
        contents = {query: content for query, content in contents.items() if query not in unreadable}
    lost = {query for query, answers in relevant.items() if query not in contents or not answers & known}
    num_shared = sum(len(sentence_ids) for sentence_ids in shared_sentences(records).values())
    return Queries(contents, display, relevant, frozenset(lost), num_shared)


def image_of(direction: Direction, query: str, relevant: Collection[str]) -> str:
    """Return the image that a query belongs to: the one a sentence was written about, or the query itself."""
    return query if direction.queries_are_images else next(iter(relevant))


def draw_queries(queries: Queries, most: int | None, seed: int = 0) -> Queries:
    """Return the queries, or `most` of them drawn at random, in their order."""
    if most is None or most >= len(queries.relevant):
        return queries
    chosen = set(random.Random(seed).sample(sorted(queries.relevant), most))
    return queries.only(query for query in queries.relevant if query in chosen)
