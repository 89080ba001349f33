"""Padding of rows, and attention masks of rows that hold several branches.

Shapes: B rows, L tokens of the longest, R tokens that look, S tokens that are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

PADDING = -1  # the branch of tokens that fill a row up


def pad(
    rows: Sequence[Sequence[int]], filler: int, side: Literal["left", "right"], width: int | None = None
) -> torch.Tensor:
    """Return rows of whole numbers as one tensor (B, L).

    Args:
        rows: at least one.
        filler: fills them up.
        side: where it stands.
        width: L, where it is more than the longest row has.
    """
    width = max(map(len, rows)) if width is None else width
    missing = [[filler] * (width - len(row)) for row in rows]
    if side == "left":
        return torch.tensor([[*before, *row] for before, row in zip(missing, rows, strict=True)])
    return torch.tensor([[*row, *behind] for row, behind in zip(rows, missing, strict=True)])


def visible_branches(branches: torch.Tensor) -> torch.Tensor:
    """Return which tokens see which, bool (B, L, L): each its own branch and branch 0, whatever the order.

    Args:
        branches: of the tokens, `PADDING` where there is none; (B, L).
    """
    return (branches[:, :, None] == branches[:, None, :]) | (branches[:, None, :] == 0)


def causal(length: int) -> torch.Tensor:
    """Return which tokens of a row see which, bool (L, L): each itself and those before it."""
    return torch.ones(length, length, dtype=torch.bool).tril()


def additive(visible: torch.Tensor, dtype: torch.dtype, hidden: float | None = None) -> torch.Tensor:
    """Return what is added to attention's scores, (B, 1, R, S): 0 where a token sees another.

    It is additive and not boolean: eager attention adds a boolean mask, silently.

    Args:
        visible: who sees whom, bool (B, R, S).
        dtype: the model's.
        hidden: what stands elsewhere; by default the dtype's lowest number. A row of -inf would turn its softmax
            into NaN.
    """
    hidden = torch.finfo(dtype).min if hidden is None else hidden
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, hidden)[:, None]
