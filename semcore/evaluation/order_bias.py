"""How much a listwise choice depends on the candidates' order, as numbers.

A query is asked in every rotation of some random orders of its candidates, so that its right answer
stands once at every position of each order. From these answers follows what one question, or the
average over some cyclic shifts, would have picked. With all shifts `choose` turns a circle that does
not depend on the given order; what is counted here then compares random circles.

Shapes: O orders, K choices, of which one is right.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semcore.verification.question import Question, reordered
from semcore.verification.shifts import shift_offsets

Scores = NDArray[np.float64]
Places = NDArray[np.int64]


class Reordered(NamedTuple):
    """The answers to one query in every rotation of some orders."""

    orders: Places
    """Which choice, as first given, stands where: (O, K)."""
    right: int
    """The right choice, as first given."""
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
    """Return what the choices of a model depend on, in percent.

    Args:
        answers: of queries with equally many choices and orders, at least two orders.
        num_shifts: how many cyclic shifts are averaged.

    Returns:
        "accuracy", the share of right picks; "accuracy_by_position", the same by the position of the right
        answer; "spread", the standard deviation of those; "agreement", how often two random orders of the
        same choices lead to the same pick.
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
    """Return the best place in its order when asked from each rotation on, (O, K)."""
    num_choices = answer.orders.shape[1]
    rotation, place = np.ogrid[:num_choices, :num_choices]
    by_place = answer.scores[:, rotation, (place - rotation) % num_choices]
    offsets = shift_offsets(num_choices, num_shifts)
    mean: Scores = np.mean([np.roll(by_place, -offset, axis=1) for offset in offsets], axis=0)
    return mean.argmax(axis=2)


def _right_by_position(answer: Reordered, picks: Places) -> Scores:
    """Return the share of right picks where the right answer stands at each position, (K,)."""
    place = (answer.orders == answer.right).argmax(axis=1)[:, None]
    rotations = (place - np.arange(answer.orders.shape[1])) % answer.orders.shape[1]
    return np.take_along_axis(picks == place, rotations, axis=1).mean(axis=0)


def _agreement(answer: Reordered, picks: Places) -> float:
    """Return how often the picks from two rotations of different orders are the same choice."""
    chosen = np.take_along_axis(answer.orders, picks, axis=1)
    pairs = [(one, other) for place, one in enumerate(chosen) for other in chosen[place + 1 :]]
    return float(np.mean([np.equal.outer(one, other).mean() for one, other in pairs]))


def _percent(share: Any) -> float:
    return round(100 * float(share), 2)
