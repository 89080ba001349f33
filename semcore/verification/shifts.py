"""Cyclic shifts of a question's choices, which average a verifier's position bias out."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import torch

from semcore.verification.question import Question


def shift_offsets(num_choices: int, num_shifts: int) -> list[int]:
    """Return where each shift begins, spread evenly; 0 comes first.

    >>> shift_offsets(10, 4)
    [0, 2, 5, 7]
    >>> shift_offsets(3, 10)
    [0, 1, 2]
    """
    num_shifts = min(num_shifts, num_choices)
    return [shift * num_choices // num_shifts for shift in range(num_shifts)]


def base_order_of(question: Question, num_shifts: int) -> list[int]:
    """Return the order whose rotations are asked: the given one, or for all rotations one that only ids decide."""
    places = list(range(len(question.choices)))
    if num_shifts < len(places):
        return places
    return sorted(places, key=lambda place: sha256(question.choices[place].item_id.encode()).hexdigest())


def mean_over_orders(orders: Sequence[Sequence[int]], answers: Sequence[torch.Tensor]) -> list[float]:
    """Average the letters' log-probabilities over the orders they were asked in, back in the given order."""
    total = torch.zeros(len(orders[0]))
    for order, scores in zip(orders, answers, strict=True):
        total[list(order)] += scores
    return total.div(len(orders)).log_softmax(dim=0).tolist()
