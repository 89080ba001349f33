"""The part of the vocabulary's softmax that no identifier has, multiplied in bfloat16.

What the search compares are logits of identifiers' tokens; they stay in float32, and so does their part of the sum
that divides them. The other tokens, nine in ten of a large vocabulary, only enter that sum. Rounded, each is off by
some 2^-8 of its logit, now up, now down: their sum by some 3e-4, times the share of the probability that they have at
all. If nearly all of that is on one token that no identifier has, the rounding of this one logit counts.

Shapes: n states of width d, T tokens of the vocabulary, V of them in identifiers.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn import functional


def log_sum_of_others(states: torch.Tensor, head: nn.Linear, vocabulary: torch.Tensor, width: int) -> torch.Tensor:
    """Return the logarithm of the sum of exp(logit) over all tokens but the identifiers', float32 (n,).

    Args:
        states: hidden states (n, d).
        head: the output head.
        vocabulary: token ids that occur in identifiers, ascending (V,).
        width: tokens to compute logits of at a time.
    """
    weight, bias = _rounded(head)
    firsts = range(0, head.out_features, width)
    edges = torch.searchsorted(vocabulary, torch.tensor([*firsts, head.out_features], device=states.device)).tolist()
    states, sums = states.bfloat16(), []
    for first, begin, end in zip(firsts, edges[:-1], edges[1:], strict=True):
        chunk = slice(first, first + width)
        logits = functional.linear(states, weight[chunk], None if bias is None else bias[chunk])
        logits.index_fill_(1, vocabulary[begin:end] - first, -torch.inf)
        sums.append(logits.float().logsumexp(dim=-1))
    return torch.stack(sums, dim=1).logsumexp(dim=1)


class _Rounded(NamedTuple):
    weight: torch.Tensor
    """(T, d) bfloat16."""
    bias: torch.Tensor | None
    """(T,) bfloat16."""


_copies: WeakKeyDictionary[nn.Linear, tuple[tuple[int, ...], _Rounded]] = WeakKeyDictionary()


def _rounded(head: nn.Linear) -> _Rounded:
    """Return the head in bfloat16, kept as long as its weights stay as they are."""
    parts = [head.weight] if head.bias is None else [head.weight, head.bias]
    state = tuple(number for part in parts for number in (part.data_ptr(), part._version))
    kept = _copies.get(head)
    if kept is None or kept[0] != state:
        with torch.no_grad():
            kept = (state, _Rounded(head.weight.bfloat16(), None if head.bias is None else head.bias.bfloat16()))
        _copies[head] = kept
    return kept[1]
