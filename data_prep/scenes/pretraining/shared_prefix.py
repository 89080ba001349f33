"""Many questions about the same images in one row: the shared prefix once, every question a branch.

A branch sees the prefix and itself, and its positions go on where the prefix ends, so each question
gets exactly the logits it would get alone. L is the length of a row, B the rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

IGNORED = -100


@dataclass(frozen=True)
class Exchange:
    """A prompt with its answer, as token ids, and the images that stand in the prompt, in order."""

    prompt: list[int]
    answer: list[int]
    images: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Row:
    """Exchanges merged at their common prefix; `branches` is 0 in the prefix, k in the k-th branch."""

    input_ids: list[int]
    labels: list[int]
    position_ids: list[int]
    branches: list[int]
    images: list[Any]


def merge(exchanges: Sequence[Exchange], image_start_id: int) -> Row:
    """Merge exchanges into one row; every branch keeps at least the last token of its prompt."""
    keys = [_with_images(exchange, image_start_id) for exchange in exchanges]
    shortest = min(len(key) for key in keys) - 1
    shared = next((place for place in range(shortest) if len({key[place] for key in keys}) > 1), shortest)
    prefix = exchanges[0].prompt[:shared]
    num_shared_images = prefix.count(image_start_id)
    row = Row(
        input_ids=list(prefix),
        labels=[IGNORED] * shared,
        position_ids=list(range(shared)),
        branches=[0] * shared,
        images=list(exchanges[0].images[:num_shared_images]),
    )
    for number, exchange in enumerate(exchanges, start=1):
        rest = exchange.prompt[shared:]
        row.input_ids.extend([*rest, *exchange.answer])
        row.labels.extend([IGNORED] * len(rest) + exchange.answer)
        row.position_ids.extend(range(shared, shared + len(rest) + len(exchange.answer)))
        row.branches.extend([number] * (len(rest) + len(exchange.answer)))
        row.images.extend(exchange.images[num_shared_images:])
    return row


def _with_images(exchange: Exchange, image_start_id: int) -> list[tuple[int, Any]]:
    """The prompt's tokens, each image's first token beside which image it is: others look the same."""
    images = iter(exchange.images)
    return [(token, next(images) if token == image_start_id else None) for token in exchange.prompt]


def collate(rows: Sequence[Row], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Return right-padded tensors (B, L) and an additive attention mask (B, 1, L, L)."""
    length = max(len(row.input_ids) for row in rows)

    def pad(values: Sequence[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([[*value, *[filler] * (length - len(value))] for value in values])

    branches = pad([row.branches for row in rows], -1)
    same = branches[:, :, None] == branches[:, None, :]
    visible = (same | (branches[:, None, :] == 0)) & torch.ones(length, length, dtype=torch.bool).tril()
    mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
    return {
        "input_ids": pad([row.input_ids for row in rows], pad_token_id),
        "labels": pad([row.labels for row in rows], IGNORED),
        "position_ids": pad([row.position_ids for row in rows], 0),
        "attention_mask": mask[:, None],
    }
