"""Questions to a listwise verifier: candidates as choices, and the prompt that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from semcore.data.directions import Direction
from semcore.models.prompts import IMAGE, Prompts
from semcore.runtime.errors import UserError
from semcore.verification.option_logits import LETTERS


class Choice(NamedTuple):
    """A candidate in the prompt: an image (t2i) or a sentence (i2t), with its keywords."""

    item_id: str
    keywords: str
    sentence: str = ""


class Question(NamedTuple):
    """A query and its candidates; the query is a sentence (t2i) or an image's id (i2t)."""

    query: str
    choices: tuple[Choice, ...]


def question_turn(prompts: Prompts, direction: Direction, question: Question) -> str:
    """Return the user's turn of a question, its choices labelled A, B, C, ... in their order.

    Raises:
        UserError: fewer than two choices, or more than letters.
    """
    if not 2 <= len(question.choices) <= len(LETTERS):
        raise UserError(
            f"a question needs 2 to {len(LETTERS)} candidates, one a letter from A to {LETTERS[-1]}, "
            f"found {len(question.choices)}; choose another --num-candidates, or use --verifier likelihood"
        )
    return render_question(prompts, direction, question, LETTERS)


def render_question(prompts: Prompts, direction: Direction, question: Question, labels: Sequence[str]) -> str:
    """Return the user's turn with these labels before the choices, in their order."""
    candidates: list[dict[str, Any]] = [
        {"label": label, "keywords": choice.keywords, "image": IMAGE, "sentence": choice.sentence}
        for label, choice in zip(labels, question.choices, strict=False)
    ]
    return prompts.render(direction.verify_prompt, candidates=candidates, query=question.query, image=IMAGE)


def images_of(direction: Direction, question: Question) -> list[str]:
    """Return the ids of the images in a question's prompt, in their order."""
    return direction.images_shown(question.query, (choice.item_id for choice in question.choices))


def reordered(question: Question, order: Sequence[int]) -> Question:
    """Return the question with its choices in another order."""
    return Question(question.query, tuple(question.choices[place] for place in order))
