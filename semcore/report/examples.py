"""Example queries of a run with their hits, correct and wrong, drawn by seed."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.report.thumbnails import Picture, thumbnail
from semcore.runtime.errors import UnreadableImage

NUM_HITS = 5

OUTCOMES = {
    "found": "Right from the start",
    "repaired": "Put right by verification",
    "spoilt": "Put wrong by verification",
    "confused": "On the shortlist, but not first",
    "lost": "Not on the shortlist",
}

PerQueryRow = Mapping[str, Any]


class Shown(NamedTuple):
    """Content of a report's examples: image_id -> thumbnail, sentence_id -> text."""

    pictures: Mapping[str, Picture]
    sentences: Mapping[str, str]


class Item(NamedTuple):
    """An image or a sentence; `text` and `image` are both empty where only the id is known."""

    item_id: str
    text: str = ""
    picture: Picture | None = None


class Hit(NamedTuple):
    """A retrieved item; `rank_generated` is None where the generator's list in the file does not have it."""

    item: Item
    right: bool
    identifier: str
    rank_generated: int | None


class Example(NamedTuple):
    """A query, its best hits, and its relevant items where no hit is relevant."""

    outcome: str
    query: Item
    hits: list[Hit]
    missed: list[Item]
    rank_generated: int | None
    rank_verified: int | None


def choose_examples(
    rows: Sequence[PerQueryRow], *, num_per_outcome: int = 2, seed: int = 0
) -> list[tuple[str, PerQueryRow]]:
    """Draw (outcome, row), up to `num_per_outcome` for each of `OUTCOMES`, equal for equal seeds."""
    is_verified = any(row["verified"] for row in rows)
    drawers: dict[str, list[PerQueryRow]] = {outcome: [] for outcome in OUTCOMES}
    for row in rows:
        drawers[_outcome(row, is_verified)].append(row)
    rng = random.Random(seed)
    return [
        (outcome, row)
        for outcome, found in drawers.items()
        for row in rng.sample(found, min(num_per_outcome, len(found)))
    ]


def read_shown(dataset: Dataset, direction: Direction, rows: Iterable[PerQueryRow]) -> Shown:
    """Read the images and sentences that examples of these rows show; an unreadable image is left out."""
    queries: set[str] = set()
    items: set[str] = set()
    for row in rows:
        queries.add(row["query_id"])
        items.update(row["right"][:NUM_HITS], _ranking(row), [row["item_id"]] if "item_id" in row else [])
    images, sentences = (items, queries) if direction.items_are_images else (queries, items)
    texts = {
        sentence.sentence_id: sentence.text
        for record in dataset.images
        for sentence in record.sentences
        if sentence.sentence_id in sentences
    }
    return Shown(_thumbnails(dataset, images), texts)


def show_example(outcome: str, row: PerQueryRow, direction: Direction, shown: Shown) -> Example:
    """Convert a per-query row to an example for the templates.

    Args:
        outcome: A key of `OUTCOMES`.
        row: The per-query row.
        direction: The direction of the row.
        shown: Images and sentences; other items are shown by their ids.
    """

    def item(item_id: str) -> Item:
        return show_item(item_id, direction, shown)

    query = show_query(row, direction, shown)
    identifiers = {hit["item_id"]: hit["identifier"] for hit in row["generated"]}
    ranks = {hit["item_id"]: rank for rank, hit in enumerate(row["generated"], start=1)}
    ranking, right = _ranking(row), set(row["right"])
    hits = [Hit(item(hit), hit in right, identifiers.get(hit, ""), ranks.get(hit)) for hit in ranking]
    missed = [] if right & set(ranking) else [item(each) for each in row["right"][:NUM_HITS]]
    return Example(OUTCOMES[outcome], query, hits, missed, row["rank_generated"], row["rank_verified"])


def show_item(item_id: str, direction: Direction, shown: Shown) -> Item:
    """Return an item of a direction with its picture or its text, as far as they are known."""
    if direction.items_are_images:
        return Item(item_id, picture=shown.pictures.get(item_id))
    return Item(item_id, text=shown.sentences.get(item_id, ""))


def show_query(row: PerQueryRow, direction: Direction, shown: Shown) -> Item:
    """Return the query of a row with its picture or its text."""
    if direction.queries_are_images:
        return Item(row["query_id"], picture=shown.pictures.get(row["query_id"]))
    return Item(row["query_id"], text=row["query"])


def _thumbnails(dataset: Dataset, images: set[str]) -> dict[str, Picture]:
    pictures = {}
    for record in dataset.images:
        if record.image_id in images:
            try:
                pictures[record.image_id] = thumbnail(dataset.image_path(record))
            except UnreadableImage:
                continue
    return pictures


def _ranking(row: PerQueryRow) -> list[str]:
    """Return the best item ids: of the verified ranking where there is one, else of the generated one."""
    return [hit["item_id"] for hit in row["verified"] or row["generated"]][:NUM_HITS]


def _outcome(row: PerQueryRow, is_verified: bool) -> str:
    before = row["rank_generated"]
    after = row["rank_verified"] if is_verified else before
    if after == 1:
        return "found" if before == 1 else "repaired"
    if before == 1:
        return "spoilt"
    return "confused" if after is not None else "lost"
