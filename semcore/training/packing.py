"""Packing of examples into rows: the shared prefix of their prompts once, each example a branch.

A branch attends to the shared prefix and itself, and its positions continue from the prefix, so every
example gets the logits it would get alone. All positions that predict a label are at the end of the
row, so the output head is computed only for them.

    [shared prefix] [rest of prompt 1] [rest of prompt 2] .. | [answer 1] [answer 2] ..
                                                               the window that predicts

Shapes: B rows, L tokens of the longest, W tokens of the longest window.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from semcore.models.attention_masks import PADDING, additive, causal, pad, visible_branches
from semcore.training.attention_loss import CANDIDATES, RIGHT
from semcore.training.identifier_pairs import Example

IGNORED = -100
# The lowest number of bfloat16, since the trainer casts the mask to the model's dtype.
HIDDEN = torch.finfo(torch.bfloat16).min
CHOICES, SHARES = "label_choices", "label_shares"
"""Names of the tensors in a batch where several tokens share the place of a label."""


@dataclass(frozen=True)
class Row:
    """Examples merged at the common prefix of their prompts.

    Attributes:
        input_ids: all tokens.
        position_ids: positions as in each example alone.
        branches: 0 in the prefix, k in the k-th example's own tokens.
        labels: the targets of the last `len(labels)` tokens.
        images: ids of the images, in the order of their tokens.
        sees: the branches that each branch attends to; by default the prefix and itself.
        candidates: the candidate that each token shows, from 1 on, 0 for none; empty where attention is not supervised.
        right: the right candidate for each label, 0 for none; empty likewise.
        shares: for each label token -> its probability, where several tokens share the place of one; empty where none
            does.
        units: for each example the numbers of its item's units, for the set head; empty where it is not trained.
        num_right: how many examples, the first ones, answer with a right identifier where the others are found ones
            that are ranked behind; 0 where nothing is ranked.
    """

    input_ids: list[int]
    position_ids: list[int]
    branches: list[int]
    labels: list[int]
    images: list[str]
    sees: list[set[int]] | None = None
    candidates: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    shares: list[Mapping[int, float]] = field(default_factory=list)
    units: list[Sequence[int]] = field(default_factory=list)
    num_right: int = 0


def shared_prefix(first: Example, second: Example, image_start_id: int) -> int:
    """Return the length of two prompts' common prefix; at least the last token of each is not shared.

    Different images have equal tokens, so the prefix ends before the first image that differs.
    """
    end = min(len(first.prompt), len(second.prompt)) - 1
    if first.prompt is second.prompt and first.images == second.images:
        return end
    end = _num_equal(first.prompt[:end], second.prompt[:end])
    image_starts = [index for index in range(end) if first.prompt[index] == image_start_id]
    same_images = _num_equal(first.images, second.images)
    return image_starts[same_images] if same_images < len(image_starts) else end


def merge(examples: Sequence[Example], image_start_id: int) -> Row:
    """Merge examples into one row.

    Args:
        examples: at least one.
        image_start_id: the token before each image's tokens.
    """
    first, shared = examples[0], common_prefix(examples, image_start_id)
    num_shared_images = list(first.prompt[:shared]).count(image_start_id)
    row = Row(
        list(first.prompt[:shared]), list(range(shared)), [0] * shared, [], list(first.images[:num_shared_images])
    )
    for branch, example in enumerate(examples, start=1):
        append(row, example.prompt[shared:-1], shared, branch)
        row.images.extend(example.images[num_shared_images:])
    for branch, example in enumerate(examples, start=1):
        append(row, [example.prompt[-1], *example.answer[:-1]], len(example.prompt) - 1, branch)
        row.labels.extend(example.answer)
        if example.shares:
            row.shares.append(example.shares)
    if first.candidates:
        _mark(row, examples, shared)
    if any(example.units for example in examples):
        row.units.extend(example.units for example in examples)
    return row


def _mark(row: Row, examples: Sequence[Example], shared: int) -> None:
    """Note which candidate each token of a merged row shows, and which is right."""
    row.candidates.extend(examples[0].candidates[:shared])
    for example in examples:
        row.candidates.extend(example.candidates[shared:-1])
    for example in examples:
        following = [0] * (len(example.answer) - 1)
        row.candidates.extend([example.candidates[-1], *following])
        row.right.extend([example.right, *following])


def common_prefix(examples: Sequence[Example], image_start_id: int) -> int:
    """Return the length of the common prefix of all examples' prompts."""
    return min(shared_prefix(examples[0], example, image_start_id) for example in examples)


def row_length(examples: Sequence[Example], image_start_id: int) -> int:
    """Return the number of tokens in the row that `merge` makes of examples."""
    return _length(examples, common_prefix(examples, image_start_id))


def pack(examples: Iterable[Example], max_tokens: int, image_start_id: int) -> Iterator[list[Example]]:
    """Group examples into rows of at most `max_tokens`, in their order; a longer one gets its own row."""
    chosen: list[Example] = []
    shared = 0
    for example in examples:
        now = min(shared, shared_prefix(chosen[0], example, image_start_id)) if chosen else len(example.prompt) - 1
        if chosen and _length([*chosen, example], now) > max_tokens:
            yield chosen
            chosen, now = [], len(example.prompt) - 1
        chosen.append(example)
        shared = now
    if chosen:
        yield chosen


def _num_equal(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return the length of two sequences' common prefix."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(first), len(second)))


def _length(examples: Sequence[Example], shared: int) -> int:
    return shared + sum(len(example.prompt) + len(example.answer) - 1 - shared for example in examples)


def append(row: Row, tokens: Sequence[int], position: int, branch: int) -> None:
    """Append tokens of one branch to a row, at positions from `position` on."""
    row.input_ids.extend(tokens)
    row.position_ids.extend(range(position, position + len(tokens)))
    row.branches.extend([branch] * len(tokens))


def collate(rows: Sequence[Row], pad_token_id: int, multiple: int = 8) -> dict[str, Any]:
    """Return the arguments of `model(**batch)` (B, L), without the images; rows are padded on the left.

    Args:
        rows: B rows.
        pad_token_id: pads the rows.
        multiple: lengths are rounded up to a multiple of it, so that fewer different shapes occur.
    """
    longest = max(len(row.input_ids) for row in rows)
    length = -(-longest // multiple) * multiple
    window = max(len(row.labels) for row in rows) + 1  # the trainer does not count a first label

    branches = pad([row.branches for row in rows], PADDING, "left", length)
    labels = pad([row.labels for row in rows], IGNORED, "left", window)
    return {
        "input_ids": pad([row.input_ids for row in rows], pad_token_id, "left", length),
        "position_ids": pad([row.position_ids for row in rows], 0, "left", length),
        "attention_mask": attention_mask(branches, [row.sees for row in rows]),
        "labels": labels,
        "shift_labels": labels,  # at the positions that predict them: no shift is needed
        "logits_to_keep": window,
        "use_cache": False,
        **_marks(rows, length, window),
        **_shares(rows, window),
    }


def _marks(rows: Sequence[Row], length: int, window: int) -> dict[str, torch.Tensor]:
    if not any(row.candidates for row in rows):
        return {}
    return {
        CANDIDATES: pad([row.candidates for row in rows], 0, "left", length),
        RIGHT: pad([row.right for row in rows], 0, "left", window),
    }


def _shares(rows: Sequence[Row], window: int) -> dict[str, torch.Tensor]:
    """Return the tokens that share the places of labels and their probabilities, (B, W, C) each, if any do."""
    if not any(row.shares for row in rows):
        return {}
    count = max(len(shares) for row in rows for shares in row.shares)
    choices = torch.zeros(len(rows), window, count, dtype=torch.long)
    shares = torch.zeros(len(rows), window, count)
    for number, row in enumerate(rows):
        for place, own in enumerate(row.shares, start=window - len(row.shares)):
            choices[number, place, : len(own)] = torch.tensor(list(own))
            shares[number, place, : len(own)] = torch.tensor(list(own.values()))
    return {CHOICES: choices, SHARES: shares}


def attention_mask(branches: torch.Tensor, sees: Sequence[Sequence[Collection[int]] | None] = ()) -> torch.Tensor:
    """Return the additive causal mask (B, 1, L, L) in which a token attends to its branch and those its branch sees.

    Args:
        branches: branch of each token, `PADDING` for padding; (B, L).
        sees: the `Row.sees` of each row; empty where all are the default.
    """
    visible = visible_branches(branches)
    for row, own in enumerate(sees):
        if own is not None:
            one, other = branches[row][:, None], branches[row]
            visible[row] = (one == other) | _table(own)[one, other]
    return additive(visible & causal(branches.shape[1]), torch.float32, HIDDEN)


def _table(sees: Sequence[Collection[int]]) -> torch.Tensor:
    """Return which branch (first index) attends to which; the last one, -1, is the padding's and attends to none."""
    count = len(sees)
    return torch.tensor([*([other in own for other in range(count + 1)] for own in sees), [False] * (count + 1)])
