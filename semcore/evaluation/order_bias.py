"""Order bias: the dependence of a listwise choice on the candidates' order.

A query is scored in every rotation of some random orders of its candidates, so that its relevant item
is once at every position of each order. These scores give the choice of a single question, and that of
an average over cyclic shifts. With K shifts, agreement compares two random base orders; in production
the base order is fixed (`semcore.verification.listwise.base_order_of`).

Shapes: O orders, K choices, of which one is relevant.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semcore.verification.listwise import shift_offsets
from semcore.verification.question import Question, reordered

Scores = NDArray[np.float64]
Places = NDArray[np.int64]


class Reordered(NamedTuple):
    """The scores of one query's candidates in every rotation of some orders."""

    orders: Places
    """Index of the choice at each position: (O, K)."""
    right: int
    """Index of the relevant choice."""
    scores: Scores
    """Log-probability of each letter, (O, K rotations, K letters)."""


def draw_orders(num_choices: int, num_orders: int, seed: str) -> Places:
    """Return random orders of the choices, (O, K); equal seeds give equal orders."""
    rng = random.Random(seed)
    return np.array([rng.sample(range(num_choices), num_choices) for _ in range(num_orders)])


def reorder(question: Question, orders: Places) -> list[Question]:
    """Return the question in every rotation of every order, O x K of them, rotation by rotation."""
    rotations = [[*order[offset:], *order[:offset]] for order in orders.tolist() for offset in range(len(order))]
    return [reordered(question, order) for order in rotations]


def order_bias(answers: Sequence[Reordered], num_shifts: int) -> dict[str, Any]:
    """Return the measures of a model's order bias, in percent.

    Args:
        answers: scores of queries with equally many choices and orders, at least two orders.
        num_shifts: number of averaged cyclic shifts.

    Returns:
        "accuracy", the fraction of correct choices; "accuracy_by_position", the same by the position of the
        relevant item; "spread", the standard deviation of those; "agreement", how often two random orders of
        the same candidates lead to the same choice.
    """
    by_position = np.mean([_right_by_position(own, _picks(own, num_shifts)) for own in answers], axis=0)
    agreement = np.mean([_agreement(own, _picks(own, num_shifts)) for own in answers])
    return {
        "shifts": num_shifts,
        "accuracy": _percent(by_position.mean()),
        "accuracy_by_position": [_percent(share) for share in by_position],
        "spread": _percent(by_position.std()),
        "agreement": _percent(agreement),
    }


def _picks(answer: Reordered, num_shifts: int) -> Places:
    """Return the chosen position in its order, starting from each rotation, (O, K)."""
    num_choices = answer.orders.shape[1]
    rotation, place = np.ogrid[:num_choices, :num_choices]
    by_place = answer.scores[:, rotation, (place - rotation) % num_choices]
    offsets = shift_offsets(num_choices, num_shifts)
    mean: Scores = np.mean([np.roll(by_place, -offset, axis=1) for offset in offsets], axis=0)
    return mean.argmax(axis=2)


def _right_by_position(answer: Reordered, picks: Places) -> Scores:
    """Return the fraction of correct choices by the position of the relevant item, (K,)."""
    place = (answer.orders == answer.right).argmax(axis=1)[:, None]
    rotations = (place - np.arange(answer.orders.shape[1])) % answer.orders.shape[1]
    return np.take_along_axis(picks == place, rotations, axis=1).mean(axis=0)


def _agreement(answer: Reordered, picks: Places) -> float:
    """Return how often the choices in two rotations of different orders are equal."""
    chosen = np.take_along_axis(answer.orders, picks, axis=1)
    pairs = [(one, other) for place, one in enumerate(chosen) for other in chosen[place + 1 :]]
    return float(np.mean([np.equal.outer(one, other).mean() for one, other in pairs]))


def _percent(share: Any) -> float:
    return round(100 * float(share), 2)
