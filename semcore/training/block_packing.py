"""Training rows of questions in candidate blocks (`semcore.verification.block_layout`).

    [head] A [block 1] . [head] B [block 2] . .. [tail 1] [tail 2] .. | [ends of the tails]

Every block attends to the head as if the block were in the first slot. So from the second slot on it is
preceded by a copy of the head, at positions that end where the block's begin, and only that block attends
to the copy. The questions about the same candidates are tails that do not attend to each other. One plain
forward pass then gives the logits that `BlockReader` gets from cached and shifted keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from semcore.data.directions import Direction
from semcore.models.tokenization import expand_images, tokenize
from semcore.training.packing import Row, append
from semcore.training.verifier_questions import QuestionMaker, QuestionSeed
from semcore.verification.block_layout import Pieces, block_tokens, cut_question, slot_starts

HEAD = 0
PARTS = 4  # branches of a slot: copy of the head, letter, block, closing


def make_block_row(make_questions: QuestionMaker, question_seed: QuestionSeed) -> Row:
    """Return the row of a seed's questions, the same ones as with full attention."""
    tokenizer, direction, drawn = (
        make_questions.tokenizer,
        question_seed.candidates.direction,
        make_questions.draw(question_seed),
    )
    row = merge_blocks(
        tokenizer,
        direction,
        [cut_question(tokenizer, make_questions.prompts, direction, own.question) for own in drawn],
        [own.images for own in drawn],
        make_questions.visuals.num_tokens,
        letters=make_questions.letters,
        answers=[own.answer for own in drawn],
    )
    row.shares.extend(own.shares for own in drawn)
    if make_questions.marked:
        num_slots = len(drawn[0].question.choices)
        row.candidates.extend(_slot_of(branch, num_slots) for branch in row.branches)
        row.right.extend(1 + make_questions.letters.index(own.answer) for own in drawn)
    return row


def _slot_of(branch: int, num_slots: int) -> int:
    """Return the number of the slot that a branch belongs to, from 1 on; 0 for heads, their copies and tails."""
    return 1 + (branch - 1) // PARTS if 0 < branch <= PARTS * num_slots and branch % PARTS != 1 else 0


def merge_blocks(
    tokenizer: Any,
    direction: Direction,
    questions: Sequence[Pieces],
    images: Sequence[Sequence[str]],
    num_tokens: Callable[[str], int],
    *,
    letters: Sequence[int],
    answers: Sequence[int],
) -> Row:
    """Merge questions about the same candidates in the same order into one row.

    Args:
        tokenizer: the checkpoint's.
        direction: tells whether the images are in the blocks, the same of every question, or in the tails.
        questions: from `cut_question`.
        images: ids of the images of each question, in order.
        num_tokens: image id -> number of its tokens.
        letters: the tokens that the slots begin with.
        answers: each question's answer, a letter's token.
    """
    head, texts, _ = questions[0]
    shown = [[image_id] for image_id in images[0]] if direction.items_are_images else [[] for _ in texts]
    visual = [[num_tokens(image_id) for image_id in own] for own in shown]
    blocks = [block_tokens(tokenizer, text, counts) for text, counts in zip(texts, visual, strict=True)]
    row = _slots(tokenize(tokenizer, head), letters, blocks)
    query_images = images if direction.queries_are_images else [[] for _ in questions]
    row.images.extend(image_id for own in (*shown, *query_images) for image_id in own)
    tails = [
        tokenize(tokenizer, expand_images(piece.tail, [num_tokens(image_id) for image_id in own]))
        for piece, own in zip(questions, query_images, strict=True)
    ]
    return _with_tails(row, tails, answers)


def _slots(head: Sequence[int], letters: Sequence[int], blocks: Sequence[tuple[Sequence[int], int]]) -> Row:
    """Return the row up to the last slot, without its images."""
    sees: list[set[int]] = [set()]  # in addition to itself
    row = Row([], [], [], [], [], sees)
    append(row, head, 0, HEAD)
    starts = slot_starts(len(head), [len(block) for block, _ in blocks])
    for slot, (block, closing) in enumerate(blocks):
        start = starts[slot]
        copy, letter, own, end = range(1 + PARTS * slot, 1 + PARTS * (slot + 1))
        if slot > 0:
            append(row, head, start - len(head), copy)
        append(row, [letters[slot]], start, letter)
        append(row, block, start + 1, own)
        append(row, [closing], start + 1 + len(block), end)
        sees.extend([set(), {HEAD}, {copy if slot > 0 else HEAD}, {HEAD, letter, own}])
    return row


def _with_tails(row: Row, tails: Sequence[Sequence[int]], answers: Sequence[int]) -> Row:
    """Append the questions to the slots, with the last token of each, which predicts its answer, at the end."""
    sees = row.sees or []
    first, start = len(sees), row.position_ids[-1] + 1
    slots = {branch for branch in range(first) if branch % PARTS != 1}  # all but the copies of the head
    for branch, tail in enumerate(tails, start=first):
        append(row, tail[:-1], start, branch)
        sees.append(slots)
    for branch, (tail, answer) in enumerate(zip(tails, answers, strict=True), start=first):
        append(row, tail[-1:], start + len(tail) - 1, branch)
        row.labels.append(answer)
    return row
