"""Token spans of the candidates in a listwise prompt, on which attention is supervised."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any

from semcore.data.directions import Direction
from semcore.models.prompts import IMAGE, Prompts
from semcore.models.tokenization import chat_prompt, expand_images
from semcore.runtime.errors import UserError
from semcore.verification.block_layout import Pieces, cut_question
from semcore.verification.option_logits import LETTERS
from semcore.verification.question import Choice, Question, question_turn


def tokenize_marked(tokenizer: Any, pieces: Pieces, visual_tokens: list[int]) -> tuple[list[int], list[int]]:
    """Return a prompt's token ids, and of each the number of the candidate it shows: from 1 on, 0 for none.

    A candidate's text begins with its letter and goes on to the next one's.

    Args:
        tokenizer: the checkpoint's.
        pieces: from `cut_question`.
        visual_tokens: how many tokens each image of the prompt has.
    """
    left, texts = list(visual_tokens), []
    for part in _parts(pieces):
        count = part.count(str(IMAGE))
        texts.append(expand_images(part, left[:count]))
        del left[:count]
    ends = list(accumulate(map(len, texts)))[:-1]  # of the head and of every candidate
    encoding = tokenizer("".join(texts), add_special_tokens=False, return_offsets_mapping=True)
    numbers = (bisect_right(ends, start) for start, _ in encoding["offset_mapping"])
    return encoding["input_ids"], [number if number < len(ends) else 0 for number in numbers]


def check_marks(tokenizer: Any, prompts: Prompts) -> None:
    """Check that the candidates can be told apart in both prompts.

    Raises:
        UserError: a template does not begin every candidate with its label.
    """
    for direction in Direction:
        question = Question("query", tuple(Choice(f"item-{n}", f"words-{n}", f"sentence-{n}") for n in range(3)))
        try:
            parts = _parts(cut_question(tokenizer, prompts, direction, question))
        except UserError:
            parts = []
        if "".join(parts) != chat_prompt(tokenizer, question_turn(prompts, direction, question)):
            raise UserError(
                f"--training.attention-loss cannot tell the candidates of {direction.verify_prompt}.jinja apart: every "
                "candidate has to begin with its label and be written alike in every place; change the prompt so, or "
                "give --training.attention-loss 0"
            )


def _parts(pieces: Pieces) -> list[str]:
    """Return the head, every candidate with its letter, and the tail."""
    slots = (letter + block for letter, block in zip(LETTERS, pieces.blocks, strict=False))
    return [pieces.head, *slots, pieces.tail]
