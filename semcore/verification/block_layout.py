"""Questions in candidate blocks: cut so that a candidate reads the same in every slot and for every query.

    [head] A [block] . B [block] . .. [tail]

head      the prompt before the candidates; every other piece sees it
letter    begins a slot and belongs to it
block     a candidate; sees the head and itself, as if it stood in the first slot
closing   the last token of a candidate's text; it belongs to the slot, sees letter and block, and so ties them
tail      the query and what is asked; sees all

A block knows neither letter nor slot nor neighbours nor query, so its keys and values serve every
question about it. Its keys are turned to the positions of the slot it lands in.

Shapes: h tokens of the head, K slots, n_k tokens of the k-th block.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from semcore.models.prompts import IMAGE, LABEL, Prompts
from semcore.models.tokenization import chat_prompt, expand_images, tokenize
from semcore.runtime.errors import UserError
from semcore.verification.listwise import Choice, Question, render_question
from semcore.verification.option_logits import LETTERS


class Pieces(NamedTuple):
    """The text of a question in the chat template, cut at its letters; images are placeholders."""

    head: str
    blocks: tuple[str, ...]
    """What follows each letter, up to the next one."""
    tail: str


def cut_question(tokenizer: Any, prompts: Prompts, direction: str, question: Question) -> Pieces:
    """Cut a question into pieces; the last choice is shown twice to see where it ends.

    Raises:
        UserError: the template does not write every candidate alike, its label first.
    """
    doubled = Question(question.query, (*question.choices, question.choices[-1]))
    turn = render_question(prompts, direction, doubled, [LABEL] * len(doubled.choices))
    head, *blocks, last = chat_prompt(tokenizer, turn).split(str(LABEL))
    if len(blocks) != len(question.choices) or not last.startswith(blocks[-1]):
        raise _unfit(direction)
    return Pieces(head, tuple(blocks), last.removeprefix(blocks[-1]))


def check_templates(tokenizer: Any, prompts: Prompts) -> None:
    """Check that the pieces of a question make the question, and that its query is in the tail.

    Raises:
        UserError: a candidate depends on its place, its label is not the first of it, or the query comes before.
    """
    choices = tuple(Choice(f"item-{n}", f"keywords-{n}", f"sentence-{n}") for n in range(3))
    for direction in ("t2i", "i2t"):
        first, other = (Question(query, choices) for query in ("query-1", "query-2"))
        head, blocks, tail = cut_question(tokenizer, prompts, direction, first)
        whole = chat_prompt(tokenizer, render_question(prompts, direction, first, LETTERS))
        slots = "".join(letter + block for letter, block in zip(LETTERS, blocks, strict=False))
        same_head = cut_question(tokenizer, prompts, direction, other).head == head and str(IMAGE) not in head
        if head + slots + tail != whole or not same_head:
            raise _unfit(direction)


def block_tokens(tokenizer: Any, text: str, visual_tokens: Sequence[int] = ()) -> tuple[tuple[int, ...], int]:
    """Return a block's tokens and its slot's closing token.

    Args:
        tokenizer: the checkpoint's.
        text: one of `Pieces.blocks`.
        visual_tokens: how many each of its images has.
    """
    *block, closing = tokenize(tokenizer, expand_images(text, visual_tokens))
    return tuple(block), closing


def slot_starts(num_head: int, lengths: Sequence[int]) -> list[int]:
    """Return the position of each slot's letter and, last, of the tail; lengths are those of the blocks.

    >>> slot_starts(3, [5, 2])
    [3, 10, 14]
    """
    return list(accumulate((length + 2 for length in lengths), initial=num_head))


def _unfit(direction: str) -> UserError:
    return UserError(
        f"the prompt verify_{direction}.jinja cannot be asked in candidate blocks: every candidate has to begin with "
        "its label and be written alike in every place, and what is asked has to come after them; "
        "change it so, or use --attention full"
    )
