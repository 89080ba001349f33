"""Ask a listwise verifier the same questions in other orders, and count what changes (`verification.order_bias`).

The questions are built, not met: each has exactly one right candidate, put among the generator's
best wrong ones, so that what is measured does not depend on how often the generator finds it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from semcore.evaluation.order_bias import Reordered, draw_orders, order_bias, reorder
from semcore.evaluation.per_query import GeneratedHit
from semcore.retrieval.batch import Asked, Key, Part, Workplace, images_of
from semcore.retrieval.shortlist import Shortlist, question_of
from semcore.verification import choose_as_asked

NUM_ORDERS = 2  # agreement needs two; every rotation of each is asked
QUERIES_A_CHUNK = 2  # few, so that several processes have about equally much to do


class Puzzle(NamedTuple):
    """Candidates of which exactly one is right; `right` is its place."""

    shortlist: Shortlist
    right: int


def draw_puzzles(
    part: Part, hits: Mapping[str, Sequence[GeneratedHit]], num_candidates: int, num_queries: int, seed: int = 0
) -> list[Puzzle]:
    """Draw queries at random and give each its right item among the best wrong ones.

    All have equally many candidates: as many as wanted, or as most queries' hits allow.

    Args:
        part: what is searched and asked.
        hits: what was asked -> the generator's ranking.
        num_candidates: candidates a query, at most.
        num_queries: how many to draw, at most.
        seed: of the drawing.
    """
    right: dict[str, set[str]] = {}
    for query, content in part.queries.contents.items():
        right.setdefault(content, set()).update(part.queries.right[query] & part.items.keys())
    answerable = [content for content in part.contents if right[content]]
    drawn = random.Random(seed).sample(answerable, min(num_queries, len(answerable)))
    puzzles = [_puzzle(part, content, right[content], hits[content], num_candidates) for content in drawn]
    sizes = [len(puzzle.shortlist.items) for puzzle in puzzles]
    usual = max(sorted(set(sizes), reverse=True), key=sizes.count, default=0)
    return [puzzle for puzzle, size in zip(puzzles, sizes, strict=True) if size == usual > 1]


def measure_order_bias(
    name: str, asked: Asked, key: Key, puzzles: Sequence[Puzzle], place: Workplace, shifts: Sequence[int]
) -> dict[str, Any]:
    """Ask the puzzles in many orders and return what metrics.json says of it, shares in percent.

    Args:
        name: what the measured model is called.
        asked: the model.
        key: the part the puzzles are from.
        puzzles: from `draw_puzzles`, at least one.
        place: keeps the answers from a kill.
        shifts: numbers of cyclic shifts to average; more than there are candidates are as good as all.
    """

    def work(chunk: list[Puzzle]) -> list[Any]:
        features = asked.features.of(images_of(key.direction, [puzzle.shortlist for puzzle in chunk]))
        questions = [own for puzzle in chunk for own in reorder(question_of(puzzle.shortlist), orders_of(puzzle))]
        answers = choose_as_asked(
            asked.checkpoint, asked.prompts, key.direction, questions, features, blocks=asked.blocks
        )
        return torch.stack(answers).view(len(chunk), NUM_ORDERS, num_candidates, num_candidates).tolist()

    num_candidates = len(puzzles[0].shortlist.items)
    asked.features.add(images_of(key.direction, [puzzle.shortlist for puzzle in puzzles]), progress=place.progress)
    rows = place.run(f"order bias {name} {key.direction}", puzzles, QUERIES_A_CHUNK, work, "query")
    answers = [
        Reordered(orders_of(puzzle), puzzle.right, np.array(row)) for puzzle, row in zip(puzzles, rows, strict=True)
    ]
    return {
        "model": name,
        "num_queries": len(puzzles),
        "num_candidates": num_candidates,
        "num_orders": NUM_ORDERS,
        "chance": round(100 / num_candidates, 2),
        "rows": [order_bias(answers, count) for count in sorted({min(count, num_candidates) for count in shifts})],
    }


def orders_of(puzzle: Puzzle) -> NDArray[np.int64]:
    """Return the orders a puzzle is asked in, the same at every call."""
    return draw_orders(len(puzzle.shortlist.items), NUM_ORDERS, puzzle.shortlist.query)


def _puzzle(part: Part, content: str, right: set[str], hits: Sequence[GeneratedHit], num_candidates: int) -> Puzzle:
    """Put the right item where the generator found it, or last, and leave out other right ones."""
    answer = next((hit.item_id for hit in hits if hit.item_id in right), min(right))
    wrong = [hit.item_id for hit in hits if hit.item_id not in right][: num_candidates - 1]
    found = [hit.item_id for hit in hits if hit.item_id == answer or hit.item_id in wrong]
    chosen = found if answer in found else [*found, answer]
    items = tuple(part.items[item_id] for item_id in chosen)
    return Puzzle(Shortlist(content, items, (0.0,) * len(items)), chosen.index(answer))
