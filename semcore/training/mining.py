"""Mining of candidates for the verifier's training, by a search with the trained generator (paper, A.1).

The paper does not say with which queries; here they are ones the generator was not trained on.
The training split is partitioned into blocks of about as many images as an evaluation searches, and
each query is searched in the block with its relevant item. So the candidates are as hard as in the
evaluation: among all training items they would be harder, among a few easier.
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
    """A query's candidates, and the generator's rank of its first relevant item (from 1; None: not found)."""

    row: CandidateRow
    rank: int | None


def partition_images(records: Sequence[ImageRecord], size: int, seed: int) -> list[list[ImageRecord]]:
    """Partition images at random into blocks of about `size`, equal up to one.

    Args:
        records: the images.
        size: number of images that an evaluation searches.
        seed: seed of the partition.
    """
    shuffled = random.Random(seed).sample(list(records), len(records))
    num_blocks = max(1, round(len(records) / size))
    return [shuffled[number::num_blocks] for number in range(num_blocks)]


def held_out_queries(queries: Queries, held_out: Iterable[str]) -> Queries:
    """Return the queries that were held out and have a relevant item."""
    return queries.only(query for query in held_out if query in queries.relevant and query not in queries.unanswerable)


def queries_of(queries: Queries, direction: Direction, records: Sequence[ImageRecord]) -> Queries:
    """Return the queries that belong to the given images."""
    image_ids = {record.image_id for record in records}
    return queries.only(
        query for query, relevant in queries.relevant.items() if image_of(direction, query, relevant) in image_ids
    )


def mine(
    direction: Direction, view: SplitView, hits: Mapping[str, Sequence[GeneratedHit]], num_candidates: int
) -> list[Mined]:
    """Return each query's candidates, in the generator's order.

    Where no relevant item is among them, one replaces the last; where the generator finds fewer, there are fewer.
    A query whose only candidate is relevant offers no choice and is left out.

    Args:
        direction: the view's direction.
        view: the items that were searched, and the queries.
        hits: query -> the generator's ranking.
        num_candidates: candidates per query.
    """
    mined = []
    for query_id, content in view.queries.contents.items():
        relevant = view.queries.relevant[query_id]
        ranked = [hit.item_id for hit in hits[content]]
        rank = next((place for place, item_id in enumerate(ranked, start=1) if item_id in relevant), None)
        candidates = ranked[:num_candidates]
        answer = ranked[rank - 1] if rank is not None else min(relevant)
        if answer not in candidates:
            candidates[num_candidates - 1 :] = [answer]
        if len(candidates) < 2:
            continue
        row = CandidateRow(direction=direction, query_id=query_id, query=content, candidates=candidates, right=answer)
        mined.append(Mined(row, rank))
    return mined


def mining_stats(mined: Sequence[Mined], num_candidates: int, num_items: Sequence[int]) -> dict[str, object]:
    """Return statistics of one direction's candidates, fractions in percent.

    Args:
        mined: all queries of the direction.
        num_candidates: wanted candidates per query.
        num_items: number of items in each block's index.
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
    """Return the items that are these images, or sentences about them, in their order."""
    image_ids = {record.image_id for record in records}
    return [item for item in items if item.image_id in image_ids]


def _percent(view: int, whole: int) -> float:
    return round(100 * view / whole, 2) if whole else 0.0
