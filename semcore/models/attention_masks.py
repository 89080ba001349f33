"""Padding of rows, and attention masks of rows that hold several branches.

Shapes: B rows, L tokens of the longest, R query tokens, S key tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

PADDING = -1  # the branch of padding tokens


def pad(
    rows: Sequence[Sequence[int]], filler: int, side: Literal["left", "right"], width: int | None = None
) -> torch.Tensor:
    """Return padded rows of integers as one tensor (B, L).

    Args:
        rows: at least one.
        filler: the padding value.
        side: the padded side.
        width: L, if it exceeds the length of the longest row.
    """
    width = max(map(len, rows)) if width is None else width
    missing = [[filler] * (width - len(row)) for row in rows]
    if side == "left":
        return torch.tensor([[*before, *row] for before, row in zip(missing, rows, strict=True)])
    return torch.tensor([[*row, *behind] for row, behind in zip(rows, missing, strict=True)])


def visible_branches(branches: torch.Tensor) -> torch.Tensor:
    """Return which tokens attend to which, bool (B, L, L): each to its own branch and branch 0, in any order.

    Args:
        branches: branch of each token, `PADDING` for padding; (B, L).
    """
    return (branches[:, :, None] == branches[:, None, :]) | (branches[:, None, :] == 0)


def causal(length: int) -> torch.Tensor:
    """Return the causal mask of a row, bool (L, L): each token attends to itself and those before it."""
    return torch.ones(length, length, dtype=torch.bool).tril()


def additive(visible: torch.Tensor, dtype: torch.dtype, hidden: float | None = None) -> torch.Tensor:
    """Return the additive mask of attention's scores, (B, 1, R, S): 0 where a token attends to another.

    It is additive and not boolean: eager attention silently adds a boolean mask.

    Args:
        visible: the tokens that each token attends to, bool (B, R, S).
        dtype: the model's dtype.
        hidden: the value elsewhere; by default the dtype's lowest number, since a row of -inf would make its softmax
            NaN.
    """
    hidden = torch.finfo(dtype).min if hidden is None else hidden
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, hidden)[:, None]
