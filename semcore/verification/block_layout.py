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

import itertools
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from semcore.data.directions import Direction
from semcore.models.prompts import IMAGE, LABEL, Prompts
from semcore.models.tokenization import chat_prompt, expand_images, tokenize
from semcore.runtime.config_file import read_yaml
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json
from semcore.verification.option_logits import LETTERS
from semcore.verification.question import Choice, Question, render_question


class Pieces(NamedTuple):
    """The text of a question in the chat template, cut at its letters; images are placeholders."""

    head: str
    blocks: tuple[str, ...]
    """What follows each letter, up to the next one."""
    tail: str


def cut_question(tokenizer: Any, prompts: Prompts, direction: Direction, question: Question) -> Pieces:
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
    for direction in Direction:
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


def _unfit(direction: Direction) -> UserError:
    return UserError(
        f"the prompt {direction.verify_prompt}.jinja cannot be asked in candidate blocks: every candidate has to begin "
        "with its label and be written alike in every place, and what is asked has to come after them; "
        "change it so, or use --attention full"
    )


Attention = Literal["full", "blocks"]
ATTENTION = "attention.json"


def training_section(arguments: Sequence[str] | None = None) -> str:
    """Return the section of the --config file that the training of a verifier reads.

    A run's own config.yaml keeps the settings of a training in blocks apart from those of the other one; a file
    without such a section says the same for both.

    Args:
        arguments: of the command line, those of this process by default.
    """
    words = [part for word in (sys.argv[1:] if arguments is None else arguments) for part in word.split("=", 1)]
    given = dict(itertools.pairwise(words))
    if given.get("--attention") != "blocks" or "--config" not in given:
        return "train_verifier"
    try:
        sections = read_yaml(Path(given["--config"]))
    except UserError:  # said when the file is read for its settings
        sections = None
    return "train_verifier_blocks" if "train_verifier_blocks" in (sections or {}) else "train_verifier"


def attention_record(attention: Attention) -> dict[str, str]:
    """Return what attention.json holds."""
    return {"attention": attention}


def read_attention(folder: str | Path) -> Attention:
    """Return the attention that a checkpoint was trained with; "full" where it does not say.

    Raises:
        UserError: it says something else.
    """
    path = Path(folder) / ATTENTION
    if not path.is_file():
        return "full"
    content = read_json(path)
    found = content.get("attention") if isinstance(content, dict) else None
    for known in get_args(Attention):
        if found == known:
            return known
    raise UserError(
        f"{path} says that the attention is {found!r}, known are {' and '.join(get_args(Attention))}; "
        "train the verifier anew, or update semcore"
    )
