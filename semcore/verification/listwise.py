"""Listwise verification: all candidates in one prompt (paper, section 3.3), the answer a letter (ours).

The letters' log-probabilities are read at one position of one forward pass, so that every question
gets a full ranking with scores, and no text has to be parsed. Averaged over cyclic shifts of the choices, the
position bias is less.

Shapes: K choices of a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import torch

from semcore.data.directions import Direction
from semcore.verification.option_logits import LETTERS, TOKENS_PER_BATCH, option_tokens, read_options
from semcore.verification.question import Question, images_of, question_turn, reordered
from semcore.verification.session import VerifierSession


def choose_where_possible(
    session: VerifierSession, direction: Direction, questions: Sequence[Question], *, num_shifts: int = 1
) -> list[list[float]]:
    """Return what `choose` does; with fewer than two choices there is none to make: zeros, and no forward pass."""
    chosen = iter(choose(session, direction, [own for own in questions if len(own.choices) > 1], num_shifts=num_shifts))
    return [next(chosen) if len(own.choices) > 1 else [0.0] * len(own.choices) for own in questions]


def choose(
    session: VerifierSession,
    direction: Direction,
    questions: Sequence[Question],
    *,
    num_shifts: int = 1,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> list[list[float]]:
    """Return the log-probability of each choice of each question, in the order of its choices.

    Args:
        session: the verifier; its prompts hold "verify_t2i" and "verify_i2t".
        direction: "t2i" (choices are images) or "i2t" (choices are sentences).
        questions: two to ten choices each.
        num_shifts: cyclic permutations of the choices averaged to reduce position bias; 1 scores the given order
            only. With K shifts of K choices the result is order-invariant: the base order is then a hash of the
            item ids.
        tokens_per_batch: bounds the memory of a forward pass.
    """
    base_orders = [base_order_of(question, num_shifts) for question in questions]
    shifted = [
        [base_order[offset:] + base_order[:offset] for offset in shift_offsets(len(base_order), num_shifts)]
        for base_order in base_orders
    ]
    reorderings = [
        reordered(question, order) for question, own in zip(questions, shifted, strict=True) for order in own
    ]
    answers = iter(choose_in_given_order(session, direction, reorderings, tokens_per_batch=tokens_per_batch))
    return [mean_over_orders(own, [next(answers) for _ in own]) for own in shifted]


def choose_in_given_order(
    session: VerifierSession,
    direction: Direction,
    questions: Sequence[Question],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> list[torch.Tensor]:
    """Return the log-probabilities (K,) of the letters of each question, in the given order."""
    if not questions:
        return []
    turns = [question_turn(session.prompts, direction, question) for question in questions]
    images = [images_of(direction, question) for question in questions]
    letters = LETTERS[: max(len(question.choices) for question in questions)]
    options = option_tokens(session.checkpoint.tokenizer, turns[0], letters)
    if session.blocks is not None:
        features = session.features.of(image_id for own in images for image_id in own)
        logits = session.blocks.read_options(direction, questions, features, options)
    else:
        logits = read_options(session.checkpoint, session.make_prompts(turns, images), options, tokens_per_batch)
    return [own[: len(question.choices)].log_softmax(dim=0) for own, question in zip(logits, questions, strict=True)]


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
