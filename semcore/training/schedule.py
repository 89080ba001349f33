"""Schedule of a training: the rows of every step, planned for the whole training at once.

The order depends on the seed alone, not on the number of processes or on the micro batches of a step;
so one process and two, or an interrupted training and a whole one, see the same rows in each step.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import TypeVar

from torch.utils.data import Dataset

from semcore.runtime.errors import UserError
from semcore.training.block_packing import make_block_row
from semcore.training.identifier_pairs import Example
from semcore.training.packing import Row, merge, pack, row_length
from semcore.training.verifier_questions import CandidateSet, QuestionMaker, QuestionSeed
from semcore.verification.block_layout import Attention

T = TypeVar("T")


def plan_identifier_rows(
    t2i: Sequence[Example],
    i2t: Sequence[Sequence[Example]],
    *,
    image_start_id: int,
    max_tokens: int,
    num_epochs: int,
    batch_size: int,
    max_steps: int | None,
    seed: int,
) -> PlannedRows:
    """Return the rows of an identifier model's training; arguments as in `identifier_rows` and `plan`."""
    pairs = Pairs(t2i, i2t)

    def one_epoch(rng: random.Random) -> list[list[int]]:
        return identifier_rows(pairs, rng, max_tokens=max_tokens, image_start_id=image_start_id)

    planned = plan(
        one_epoch, num_epochs=num_epochs, batch_size=batch_size, max_steps=max_steps, seed=seed,
        length=lambda row: row_length(pairs.examples(row), image_start_id),
    )  # fmt: skip
    return PlannedRows(planned, lambda row: merge(pairs.examples(row), image_start_id))


def plan_question_rows(
    candidates: Sequence[CandidateSet],
    make_questions: QuestionMaker,
    *,
    image_start_id: int,
    num_epochs: int,
    batch_size: int,
    max_steps: int | None,
    seed: int,
    attention: Attention = "full",
) -> PlannedRows:
    """Return the rows of a verifier's training: each set once per epoch, in a new order; see `plan`.

    With `attention` "blocks" they are rows of candidate blocks, with the same questions in the same order.

    Raises:
        UserError: no set has only readable images.
    """
    usable = _usable(candidates, make_questions)

    def one_epoch(rng: random.Random) -> list[QuestionSeed]:
        return [QuestionSeed(candidates[number], f"{rng.random()}") for number in rng.sample(usable, len(usable))]

    planned = plan(
        one_epoch, num_epochs=num_epochs, batch_size=batch_size, max_steps=max_steps, seed=seed,
        length=make_questions.length,
    )  # fmt: skip
    return _question_rows(planned, make_questions, image_start_id, attention)


def plan_val_rows(
    candidates: Sequence[CandidateSet],
    make_questions: QuestionMaker,
    *,
    image_start_id: int,
    seed: int,
    attention: Attention = "full",
) -> PlannedRows:
    """Return a verifier's rows of val: each set once, in one order for the whole training, the longest first.

    Raises:
        UserError: no set's images can be read.
    """
    chosen = [QuestionSeed(candidates[number], f"{seed} {number}") for number in _usable(candidates, make_questions)]
    planned = sorted(chosen, key=make_questions.length, reverse=True)
    return _question_rows(planned, make_questions, image_start_id, attention)


def _usable(candidates: Sequence[CandidateSet], make_questions: QuestionMaker) -> list[int]:
    usable = [number for number, own in enumerate(candidates) if make_questions.can_ask(own)]
    if not usable:
        raise UserError("no image among the candidates can be read; see `python -m data_prep.check DATA`")
    return usable


def _question_rows(
    planned: Sequence[QuestionSeed], make_questions: QuestionMaker, image_start_id: int, attention: Attention
) -> PlannedRows:
    if attention == "blocks":
        return PlannedRows(planned, lambda question_seed: make_block_row(make_questions, question_seed))
    return PlannedRows(planned, lambda question_seed: merge(make_questions(question_seed), image_start_id))


class Pairs:
    """The examples of both directions by number: those of t2i first, then those of i2t, image by image."""

    def __init__(self, t2i: Sequence[Example], i2t: Sequence[Sequence[Example]]):
        self.t2i, self.i2t = t2i, i2t
        self._starts = array("q", accumulate(map(len, i2t), initial=len(t2i)))

    def examples(self, numbers: Sequence[int]) -> list[Example]:
        """Return the examples of a row, all of t2i or all of one image."""
        if numbers[0] < len(self.t2i):
            return [self.t2i[number] for number in numbers]
        place = bisect_right(self._starts, numbers[0]) - 1
        group, start = self.i2t[place], self._starts[place]
        return [group[number - start] for number in numbers]


def identifier_rows(pairs: Pairs, rng: random.Random, *, max_tokens: int, image_start_id: int) -> list[list[int]]:
    """Return one epoch's rows, shuffled: sentences packed at random, each image's identifiers packed together.

    Args:
        pairs: the examples.
        rng: the random generator.
        max_tokens: tokens per row, at most.
        image_start_id: the token before each image's tokens.

    Returns:
        The numbers of each row's examples.
    """
    order = rng.sample(range(len(pairs.t2i)), len(pairs.t2i))
    rows = _numbered(pack((pairs.t2i[number] for number in order), max_tokens, image_start_id), order)
    first = len(order)
    for group in pairs.i2t:
        rows += _numbered(pack(group, max_tokens, image_start_id), range(first, first + len(group)))
        first += len(group)
    rng.shuffle(rows)
    return rows


def _numbered(rows: Iterable[Sequence[Example]], numbers: Sequence[int]) -> list[list[int]]:
    """Return the numbers of rows that take examples in their order."""
    start, numbered = 0, []
    for row in rows:
        numbered.append(list(numbers[start : start + len(row)]))
        start += len(row)
    return numbered


def plan(
    epoch: Callable[[random.Random], Sequence[T]],
    *,
    num_epochs: int,
    batch_size: int,
    max_steps: int | None,
    seed: int,
    length: Callable[[T], int],
) -> list[T]:
    """Return the rows of all steps, `batch_size` per step, within a step the longest first.

    Rows of similar length are then in the same micro batch, and in the micro batches that processes
    compute at the same time. Rows that do not fill a last step are dropped, unless there is no other step.

    Args:
        epoch: makes the rows of one epoch, in a random order.
        num_epochs: number of epochs.
        batch_size: rows per step, over all processes.
        max_steps: steps, at most.
        seed: seed of the order.
        length: length of a row.
    """
    rows: list[T] = []
    for number in range(num_epochs):
        rows.extend(epoch(random.Random(f"{seed} {number}")))
        if max_steps is not None and len(rows) >= max_steps * batch_size:
            break
    while len(rows) < batch_size:
        rows.extend(rows[: batch_size - len(rows)])
    num_steps = min(len(rows) // batch_size, max_steps or len(rows))
    steps = (rows[step * batch_size : (step + 1) * batch_size] for step in range(num_steps))
    return [row for step in steps for row in sorted(step, key=length, reverse=True)]


class PlannedRows(Dataset[Row]):
    """The rows of a training in their order, made on access."""

    def __init__(self, planned: Sequence[T], make_row: Callable[[T], Row]):
        self._planned, self._make_row = planned, make_row

    def __len__(self) -> int:
        return len(self._planned)

    def __getitem__(self, index: int) -> Row:
        return self._make_row(self._planned[index])


def divide_batch(batch_size: int, num_processes: int, largest: int) -> tuple[int, int]:
    """Return the micro batch size and the gradient accumulation steps that make up a step of one process.

    Args:
        batch_size: rows per step, over all processes.
        num_processes: number of processes.
        largest: upper bound on the micro batch, which must divide a process's rows.

    Raises:
        UserError: the processes cannot share the rows equally.
    """
    if batch_size % num_processes:
        raise UserError(
            f"--training.batch-size {batch_size} cannot be shared by {num_processes} processes; "
            f"give a multiple of {num_processes}"
        )
    own = batch_size // num_processes
    micro_batch_size = next(size for size in range(min(largest, own), 0, -1) if own % size == 0)
    return micro_batch_size, own // micro_batch_size
