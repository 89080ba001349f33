"""Layout of questions in candidate blocks, where a candidate's tokens are the same in every slot and for every query.

    [head] A [block] . B [block] . .. [tail]

head      the prompt before the candidates; every other piece attends to it
letter    first token of a slot
block     a candidate; attends to the head and itself, as if it were in the first slot
closing   last token of a candidate's text; recomputed per slot, it attends to the letter and the block, so that
          later tokens can associate the two
tail      the query and the instruction; attends to all

A block depends neither on its letter, its slot, its neighbours nor the query, so its keys and values serve every
question about it. Its keys are shifted to the positions of its slot.

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
    """The text of a question in the chat template, split at its letters; images are placeholders."""

    head: str
    blocks: tuple[str, ...]
    """The text after each letter, up to the next one."""
    tail: str


def cut_question(tokenizer: Any, prompts: Prompts, direction: Direction, question: Question) -> Pieces:
    """Split a question into pieces; the last choice is rendered twice to find its end.

    Raises:
        UserError: the template does not render every candidate in the same way, its label first.
    """
    doubled = Question(question.query, (*question.choices, question.choices[-1]))
    turn = render_question(prompts, direction, doubled, [LABEL] * len(doubled.choices))
    head, *blocks, last = chat_prompt(tokenizer, turn).split(str(LABEL))
    if len(blocks) != len(question.choices) or not last.startswith(blocks[-1]):
        raise _unfit(direction)
    return Pieces(head, tuple(blocks), last.removeprefix(blocks[-1]))


def check_templates(tokenizer: Any, prompts: Prompts) -> None:
    """Check that the pieces of a question concatenate to the question, and that its query is in the tail.

    Raises:
        UserError: a candidate depends on its position, its label is not first in it, or the query precedes it.
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
        visual_tokens: number of visual tokens of each of its images.
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
    """Return the section of the --config file for a verifier's training.

    A run's own config.yaml has a separate section for a training in blocks; a file without such a section
    applies to both.

    Args:
        arguments: the command line's arguments, by default this process's.
    """
    words = [part for word in (sys.argv[1:] if arguments is None else arguments) for part in word.split("=", 1)]
    given = dict(itertools.pairwise(words))
    if given.get("--attention") != "blocks" or "--config" not in given:
        return "train_verifier"
    try:
        sections = read_yaml(Path(given["--config"]))
    except UserError:  # reported when the file is read for its settings
        sections = None
    return "train_verifier_blocks" if "train_verifier_blocks" in (sections or {}) else "train_verifier"


def attention_record(attention: Attention) -> dict[str, str]:
    """Return the content of attention.json."""
    return {"attention": attention}


def read_attention(folder: str | Path) -> Attention:
    """Return the attention that a checkpoint was trained with; "full" where it is not recorded.

    Raises:
        UserError: the record is unknown.
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
