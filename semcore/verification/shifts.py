"""Cyclic shifts of a question's choices, whose average reduces a verifier's position bias."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import torch

from semcore.verification.question import Question


def shift_offsets(num_choices: int, num_shifts: int) -> list[int]:
    """Return the offset of each shift, evenly spread, from 0 on.

    >>> shift_offsets(10, 4)
    [0, 2, 5, 7]
    >>> shift_offsets(3, 10)
    [0, 1, 2]
    """
    num_shifts = min(num_shifts, num_choices)
    return [shift * num_choices // num_shifts for shift in range(num_shifts)]


def base_order_of(question: Question, num_shifts: int) -> list[int]:
    """Return the base order of the shifts: the given one, or with all shifts one that depends only on item ids."""
    places = list(range(len(question.choices)))
    if num_shifts < len(places):
        return places
    return sorted(places, key=lambda place: sha256(question.choices[place].item_id.encode()).hexdigest())


def mean_over_orders(orders: Sequence[Sequence[int]], answers: Sequence[torch.Tensor]) -> list[float]:
    """Average the letters' log-probabilities (K,) over several orders, and return them in the given order (K,)."""
    total = torch.zeros(len(orders[0]))
    for order, scores in zip(orders, answers, strict=True):
        total[list(order)] += scores
    return total.div(len(orders)).log_softmax(dim=0).tolist()
