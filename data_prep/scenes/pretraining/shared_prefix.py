"""Rows of many questions about the same images: the shared prefix once, every question a branch.

A branch attends to the prefix and itself, and its positions continue from the prefix, so each question
gets exactly the logits it would get alone. L is the length of a row, B the rows of a batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

IGNORED = -100


@dataclass(frozen=True)
class Notes:
    """Auxiliary targets of a prompt's tokens, by position.

    Attributes:
        hints: the token that the state at this position predicts; nothing else uses these states.
        early_hints: the same for the state after the first layer.
        shows: the thing that a token of the prompt is about, under every name it may be sought by.
        seeks: the thing that a token seeks, the most specific name first: attention is trained to go to the tokens
            that show the first name that any shows. Positions of the answer, which follow the prompt's, may seek, too.
    """

    hints: dict[int, int] = field(default_factory=dict)
    early_hints: dict[int, int] = field(default_factory=dict)
    shows: dict[int, Sequence[Hashable]] = field(default_factory=dict)
    seeks: dict[int, Sequence[Hashable]] = field(default_factory=dict)


@dataclass(frozen=True)
class Exchange:
    """A prompt with its answer, as token ids, and the images that stand in the prompt, in order."""

    prompt: list[int]
    answer: list[int]
    images: tuple[Any, ...] = ()
    notes: Notes = field(default_factory=Notes)


@dataclass(frozen=True)
class Row:
    """Exchanges merged at their common prefix; `branches` is 0 in the prefix, k in the k-th branch.

    `hints` and `early_hints` have a token id where a prompt's token predicts one; `lookups` are positions, each with
    the earlier positions it is to attend to, and whether it belongs to the answer.
    """

    input_ids: list[int]
    labels: list[int]
    position_ids: list[int]
    branches: list[int]
    images: list[Any]
    hints: list[int]
    early_hints: list[int]
    lookups: list[tuple[int, list[int], bool]] = field(default_factory=list)


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
        hints=[exchanges[0].notes.hints.get(place, IGNORED) for place in range(shared)],
        early_hints=[exchanges[0].notes.early_hints.get(place, IGNORED) for place in range(shared)],
    )
    for number, exchange in enumerate(exchanges, start=1):
        rest = exchange.prompt[shared:]
        row.lookups.extend(_lookups(exchange, shared, len(row.input_ids), with_prefix=number == 1))
        own = range(shared, len(exchange.prompt) + len(exchange.answer))
        row.hints.extend(exchange.notes.hints.get(place, IGNORED) for place in own)
        row.early_hints.extend(exchange.notes.early_hints.get(place, IGNORED) for place in own)
        row.input_ids.extend([*rest, *exchange.answer])
        row.labels.extend([IGNORED] * len(rest) + exchange.answer)
        row.position_ids.extend(range(shared, shared + len(rest) + len(exchange.answer)))
        row.branches.extend([number] * (len(rest) + len(exchange.answer)))
        row.images.extend(exchange.images[num_shared_images:])
    return row


def _lookups(exchange: Exchange, shared: int, start: int, with_prefix: bool) -> list[tuple[int, list[int], bool]]:
    """Pair seeking positions with earlier ones that show what they seek, in a row whose branch begins at `start`."""

    def in_row(place: int) -> int:
        return place if place < shared else place - shared + start

    shown: dict[Hashable, list[int]] = {}
    for place, names in exchange.notes.shows.items():
        for name in names:
            shown.setdefault(name, []).append(place)
    pairs = []
    for place, names in exchange.notes.seeks.items():
        shown_name = next((name for name in names if name in shown), None)
        found = [in_row(other) for other in shown.get(shown_name, []) if other < place]
        if found and (with_prefix or place >= shared):
            pairs.append((in_row(place), found, place >= len(exchange.prompt) - 1))
    return pairs


def _with_images(exchange: Exchange, image_start_id: int) -> list[tuple[int, Any]]:
    """Return the prompt's tokens, each image's first one with the image's index: images have equal tokens."""
    images = iter(exchange.images)
    return [(token, next(images) if token == image_start_id else None) for token in exchange.prompt]


def collate(rows: Sequence[Row], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Return right-padded tensors (B, L), an additive attention mask (B, 1, L, L) and the lookups.

    `lookup_places` (N, 2) are the row and the position that each of N lookups attends from, `lookup_targets` (N, L) is
    true at the positions it is to attend to; `lookup_of_answer` (N,) is true for those that belong to the answer.
    """
    length = max(len(row.input_ids) for row in rows)

    def pad(values: Sequence[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([[*value, *[filler] * (length - len(value))] for value in values])

    branches = pad([row.branches for row in rows], -1)
    same = branches[:, :, None] == branches[:, None, :]
    visible = (same | (branches[:, None, :] == 0)) & torch.ones(length, length, dtype=torch.bool).tril()
    mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
    lookups = [(number, *lookup) for number, row in enumerate(rows) for lookup in row.lookups]
    targets = torch.zeros(len(lookups), length, dtype=torch.bool)
    for target, (_, _, found, _) in zip(targets, lookups, strict=True):
        target[found] = True
    return {
        "input_ids": pad([row.input_ids for row in rows], pad_token_id),
        "labels": pad([row.labels for row in rows], IGNORED),
        "position_ids": pad([row.position_ids for row in rows], 0),
        "attention_mask": mask[:, None],
        "hints": pad([row.hints for row in rows], IGNORED),
        "early_hints": pad([row.early_hints for row in rows], IGNORED),
        "lookup_places": torch.tensor([lookup[:2] for lookup in lookups]).reshape(-1, 2),
        "lookup_targets": targets,
        "lookup_of_answer": torch.tensor([lookup[3] for lookup in lookups], dtype=torch.bool),
    }
