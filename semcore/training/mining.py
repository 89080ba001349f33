"""Candidates that a verifier trains on, from a search with the trained generator (paper, A.1).

The paper does not say with which queries; here they are ones the generator has not trained on.
The training split is dealt out into blocks of about as many images as an evaluation searches, and
each query is searched in the block that holds its answer. So the candidates are as hard to tell
apart as they will be later: among all training items at once they would be harder, among a few easier.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict

from semcore.data.dataset import ImageRecord
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item, Queries, image_of
from semcore.retrieval.batch import SplitView
from semcore.retrieval.hits import GeneratedHit

VAL = "val"
"""The split, and the folder in RUN/candidates, that a verifier's training is stopped by."""


class CandidateRow(TypedDict):
    """A line of RUN/candidates/t2i.jsonl or i2t.jsonl."""

    direction: Direction
    query_id: str
    query: str
    candidates: list[str]
    right: str


class Mined(NamedTuple):
    """A query's candidates, and the generator's rank of its first right item (from 1; None: not found)."""

    row: CandidateRow
    rank: int | None


def partition_images(records: Sequence[ImageRecord], size: int, seed: int) -> list[list[ImageRecord]]:
    """Deal images out at random into blocks of about `size`, equal up to one.

    Args:
        records: the images.
        size: how many images an evaluation searches.
        seed: of the dealing.
    """
    shuffled = random.Random(seed).sample(list(records), len(records))
    num_blocks = max(1, round(len(records) / size))
    return [shuffled[number::num_blocks] for number in range(num_blocks)]


def held_out_queries(queries: Queries, held_out: Iterable[str]) -> Queries:
    """Keep the queries that were held out and can be answered."""
    return queries.only(query for query in held_out if query in queries.relevant and query not in queries.unanswerable)


def queries_of(queries: Queries, direction: Direction, records: Sequence[ImageRecord]) -> Queries:
    """Return the queries that belong to some images."""
    image_ids = {record.image_id for record in records}
    return queries.only(
        query for query, right in queries.relevant.items() if image_of(direction, query, right) in image_ids
    )


def mine(
    direction: Direction, view: SplitView, hits: Mapping[str, Sequence[GeneratedHit]], num_candidates: int
) -> list[Mined]:
    """Return each query's candidates, as the generator ranked them.

    Where no right item is among them, one replaces the last; where the generator finds fewer, there are fewer.
    A query whose right item is all there is teaches no choice and is left out.

    Args:
        direction: of the view.
        view: what was searched and asked.
        hits: what was asked -> the generator's ranking.
        num_candidates: how many a query.
    """
    mined = []
    for query_id, content in view.queries.contents.items():
        right = view.queries.relevant[query_id]
        ranked = [hit.item_id for hit in hits[content]]
        rank = next((place for place, item_id in enumerate(ranked, start=1) if item_id in right), None)
        candidates = ranked[:num_candidates]
        answer = ranked[rank - 1] if rank is not None else min(right)
        if answer not in candidates:
            candidates[num_candidates - 1 :] = [answer]
        if len(candidates) < 2:
            continue
        row = CandidateRow(direction=direction, query_id=query_id, query=content, candidates=candidates, right=answer)
        mined.append(Mined(row, rank))
    return mined


def mining_stats(mined: Sequence[Mined], num_candidates: int, num_items: Sequence[int]) -> dict[str, object]:
    """Return what is worth knowing about one direction's candidates, shares in percent.

    Args:
        mined: all queries of the direction.
        num_candidates: how many a query were asked for.
        num_items: how many items each block's index held.
    """
    ranks = [rank for _, rank in mined]
    within = sum(rank is not None and rank <= num_candidates for rank in ranks)
    return {
        "num_queries": len(mined),
        "num_items": list(num_items),
        "percent_right_at_1": _percent(sum(rank == 1 for rank in ranks), len(mined)),
        "percent_right_among_candidates": _percent(within, len(mined)),
        "percent_replaced": _percent(len(mined) - within, len(mined)),
        "num_short": sum(len(row["candidates"]) < num_candidates for row, _ in mined),
    }


def items_of(items: Sequence[Item], records: Sequence[ImageRecord]) -> list[Item]:
    """Return the items that are these images, or were written about them, in their order."""
    image_ids = {record.image_id for record in records}
    return [item for item in items if item.image_id in image_ids]


def _percent(view: int, whole: int) -> float:
    return round(100 * view / whole, 2) if whole else 0.0
