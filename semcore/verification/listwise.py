"""Verification by choice: all candidates in one prompt (paper, section 3.3), the answer a letter (ours).

The letters' log-probabilities are read at one position of one forward pass, so that every question
gets exactly one full ranking with scores, and no text has to be parsed.

Shapes: K choices of a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from semcore.models.batching import make_prompts
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import IMAGE, Prompts
from semcore.runtime.errors import UserError
from semcore.verification.option_logits import LETTERS, TOKENS_PER_BATCH, option_tokens, read_options

if TYPE_CHECKING:
    from semcore.verification.block_inference import BlockReader


class Choice(NamedTuple):
    """A candidate as the prompt shows it: an image (t2i) or a sentence (i2t), with its keywords."""

    item_id: str
    keywords: str
    sentence: str = ""


class Question(NamedTuple):
    """A query and its candidates; the query is a sentence (t2i) or an image's id (i2t)."""

    query: str
    choices: tuple[Choice, ...]


def question_turn(prompts: Prompts, direction: str, question: Question) -> str:
    """Return the user's turn that asks a question, its choices labelled A, B, C, ... as they stand.

    Raises:
        UserError: fewer than two choices, or more than letters.
    """
    if not 2 <= len(question.choices) <= len(LETTERS):
        raise UserError(
            f"a question needs 2 to {len(LETTERS)} candidates, one a letter from A to {LETTERS[-1]}, "
            f"found {len(question.choices)}; choose another --num-candidates, or use --verifier likelihood"
        )
    return render_question(prompts, direction, question, LETTERS)


def render_question(prompts: Prompts, direction: str, question: Question, labels: Sequence[str]) -> str:
    """Return the user's turn with these labels before the choices, as they stand."""
    candidates: list[dict[str, Any]] = [
        {"label": label, "keywords": choice.keywords, "image": IMAGE, "sentence": choice.sentence}
        for label, choice in zip(labels, question.choices, strict=False)
    ]
    if direction == "t2i":
        return prompts.render("verify_t2i", candidates=candidates, query=question.query)
    return prompts.render("verify_i2t", candidates=candidates, image=IMAGE)


def choose(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: str,
    questions: Sequence[Question],
    features: Mapping[str, torch.Tensor],
    *,
    num_shifts: int = 1,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    blocks: BlockReader | None = None,
) -> list[list[float]]:
    """Return the log-probability of each choice of each question, in the order of its choices.

    Args:
        checkpoint: the verifier.
        prompts: hold "verify_t2i" and "verify_i2t".
        direction: "t2i" (choices are images) or "i2t" (choices are sentences).
        questions: two to ten choices each.
        features: the visual features of every image that occurs, by its id.
        num_shifts: how many cyclic shifts of the choices to average over, against a liking for early
            or late letters; 1 asks once, in the given order. A question of K choices has K shifts at
            most; with all of them the given order does not matter, as they turn a circle of its own.
        tokens_per_batch: bounds the memory of a forward pass.
        blocks: reads the questions in candidate blocks, for a verifier that was trained so.
    """
    base_orders = [_base_order(question, num_shifts) for question in questions]
    shifted = [
        [base_order[offset:] + base_order[:offset] for offset in shift_offsets(len(base_order), num_shifts)]
        for base_order in base_orders
    ]
    reorderings = [
        reordered(question, order) for question, own in zip(questions, shifted, strict=True) for order in own
    ]
    answers = iter(
        choose_in_given_order(
            checkpoint, prompts, direction, reorderings, features, tokens_per_batch=tokens_per_batch, blocks=blocks
        )
    )
    return [_mean_of_orders(own, [next(answers) for _ in own]) for own in shifted]


def choose_in_given_order(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: str,
    questions: Sequence[Question],
    features: Mapping[str, torch.Tensor],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    blocks: BlockReader | None = None,
) -> list[torch.Tensor]:
    """Return the log-probabilities (K,) of the letters of each question, asked once in the given order."""
    if not questions:
        return []
    turns = [question_turn(prompts, direction, question) for question in questions]
    letters = LETTERS[: max(len(question.choices) for question in questions)]
    options = option_tokens(checkpoint.tokenizer, turns[0], letters)
    if blocks is not None:
        logits = blocks.read_options(direction, questions, features, options)
    else:
        rows = make_prompts(checkpoint, turns, [_images(direction, question, features) for question in questions])
        logits = read_options(checkpoint, rows, options, tokens_per_batch)
    return [own[: len(question.choices)].log_softmax(dim=0) for own, question in zip(logits, questions, strict=True)]


def reordered(question: Question, order: Sequence[int]) -> Question:
    """Return the question with its choices in another order."""
    return Question(question.query, tuple(question.choices[place] for place in order))


def shift_offsets(num_choices: int, num_shifts: int) -> list[int]:
    """Return where each shift begins, spread evenly; 0 comes first.

    >>> shift_offsets(10, 4)
    [0, 2, 5, 7]
    >>> shift_offsets(3, 10)
    [0, 1, 2]
    """
    num_shifts = min(num_shifts, num_choices)
    return [shift * num_choices // num_shifts for shift in range(num_shifts)]


def _base_order(question: Question, num_shifts: int) -> list[int]:
    """Return the order whose rotations are asked: the given one, or for all rotations one that only ids decide."""
    places = list(range(len(question.choices)))
    if num_shifts < len(places):
        return places
    return sorted(places, key=lambda place: sha256(question.choices[place].item_id.encode()).hexdigest())


def _mean_of_orders(orders: Sequence[Sequence[int]], answers: Sequence[torch.Tensor]) -> list[float]:
    """Average the letters' log-probabilities over the orders they were asked in, back in the given order."""
    total = torch.zeros(len(orders[0]))
    for order, scores in zip(orders, answers, strict=True):
        total[list(order)] += scores
    return total.div(len(orders)).log_softmax(dim=0).tolist()


def _images(direction: str, question: Question, features: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    if direction == "t2i":
        return [features[choice.item_id] for choice in question.choices]
    return [features[question.query]]
