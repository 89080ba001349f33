"""Questions in candidate blocks as one row to train on (`semcore.verification.blocks`).

    [head] A [block 1] . [head] B [block 2] . .. [tail 1] [tail 2] .. | [ends of the tails]

Every block sees the head as if it stood in the first slot. So from the second slot on a copy of the head
stands before it, at positions that lead up to the block's, and only that block sees it. The questions
about the same candidates are tails that do not see each other. One plain forward pass then gives the
logits that `BlockReader` gets from kept and turned keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from semcore.inputs import expand_images, tokenize
from semcore.training.questions import Ask, QuestionMaker
from semcore.training.rows import Row, append
from semcore.verification.blocks import block_tokens, cut_question, slot_starts

HEAD = 0
PARTS = 4  # branches of a slot: copy of the head, letter, block, closing


def make_block_row(make_questions: QuestionMaker, ask: Ask) -> Row:
    """Return the row of an ask's questions, the same ones that are asked with full attention."""
    direction, drawn = ask.candidates.direction, make_questions.draw(ask)
    tokenizer, prompts, visuals = make_questions.tokenizer, make_questions.prompts, make_questions.visuals
    pieces = [cut_question(tokenizer, prompts, direction, own.question) for own in drawn]
    shown = [[i] for i in drawn[0].images] if direction == "t2i" else [[]] * len(pieces[0].blocks)
    blocks = [
        block_tokens(tokenizer, text, [visuals.num_tokens(image_id) for image_id in own])
        for text, own in zip(pieces[0].blocks, shown, strict=True)
    ]
    row = _slots(tokenize(tokenizer, pieces[0].head), make_questions.letters, blocks)
    row.images.extend(image_id for own in shown for image_id in own)
    tails = []
    for own, piece in zip(drawn, pieces, strict=True):
        images = own.images if direction == "i2t" else ()
        row.images.extend(images)
        tails.append(tokenize(tokenizer, expand_images(piece.tail, [visuals.num_tokens(i) for i in images])))
    return _with_tails(row, tails, [own.answer for own in drawn])


def _slots(head: Sequence[int], letters: Sequence[int], blocks: Sequence[tuple[Sequence[int], int]]) -> Row:
    """Return the row as far as the last slot, its images left out."""
    sees: list[set[int]] = [set()]  # beside itself
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
    """Put the questions behind the slots, and the last tokens of all, which predict the answers, at the end."""
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
