"""Log-probabilities of identifier tokens, without a [rows, vocabulary] tensor in float32.

The paper's score divides by the whole vocabulary's softmax (`normalization="vocabulary"`); the alternative divides by
the tokens that occur in identifiers only (`"identifiers"`), which costs a small part of the output head. Tokens of
identifiers are multiplied in float32 whatever the model's precision: rounded to bfloat16, logits of the best tokens are
often equal. The other tokens, of which only the sum counts, are multiplied in bfloat16 where that is faster.

Shapes: n states, V tokens that occur in identifiers, p pairs of a state and a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from semcore.decoding.rounded_head import log_sum_of_others
from semcore.runtime.native_precision import native_dtype

Normalization = Literal["vocabulary", "identifiers"]

LEAST_OTHERS = 2**15
"""Fewer tokens that no identifier has are multiplied in float32: a rounded copy of the head would cost more."""
CHUNK_ELEMENTS = {"cpu": 2**18}
"""Logits computed at a time: on a CPU they stay in its cache between the product and the exponentials."""
LARGE_CHUNK_ELEMENTS = 2**27
"""The same on any other device: few launches, at most half a gigabyte."""
ROWS_AT_A_TIME = 1024


@dataclass(frozen=True)
class Scorer:
    """Log-probabilities of identifier tokens from a model's states."""

    head: nn.Linear | None
    """The output head; None if states are logits already."""
    vocabulary: torch.Tensor
    """Token ids that occur in identifiers, ascending (V,)."""
    normalization: Normalization

    def log_probabilities(self, states: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of some tokens in some states, float32 (p,).

        Args:
            states: hidden states or logits (n, ...).
            rows: index of the state (p,).
            tokens: the token, as its index in `vocabulary` (p,).
        """
        if len(rows) == 0:
            return torch.empty(0, device=states.device)
        if len(states) <= ROWS_AT_A_TIME:
            return self._table(states)[rows, tokens]
        scores = torch.empty(len(rows), device=states.device)
        for first in range(0, len(states), ROWS_AT_A_TIME):
            inside = (rows >= first) & (rows < first + ROWS_AT_A_TIME)
            scores[inside] = self._table(states[first : first + ROWS_AT_A_TIME])[rows[inside] - first, tokens[inside]]
        return scores

    def _table(self, states: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of every identifier token, float32 (n, V)."""
        if self.normalization == "identifiers":
            return self._identifier_logits(states).log_softmax(dim=-1)
        if self.head is None:
            return states[:, self.vocabulary].float() - states.float().logsumexp(dim=-1, keepdim=True)
        if self._rounds(self.head):
            own = self._identifier_logits(states)
            others = log_sum_of_others(states, self.head, self.vocabulary, chunk_width(states))
            return own - torch.logaddexp(own.logsumexp(dim=-1), others)[:, None]
        return self._over_the_vocabulary(states, self.head)

    def _rounds(self, head: nn.Linear) -> bool:
        """Return whether to multiply what no identifier has in bfloat16."""
        few = head.out_features - len(self.vocabulary) < LEAST_OTHERS
        return not few and native_dtype(str(head.weight.device)) == "bfloat16"

    def _identifier_logits(self, states: torch.Tensor) -> torch.Tensor:
        if self.head is None:
            return states[:, self.vocabulary].float()
        return functional.linear(states.float(), *self._identifier_head)

    @cached_property
    def _identifier_head(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the head's rows of identifier tokens, gathered once per search, float32 (V, d), (V,)."""
        assert self.head is not None
        bias = None if self.head.bias is None else self.head.bias[self.vocabulary].float()
        return self.head.weight[self.vocabulary].float(), bias

    def _over_the_vocabulary(self, states: torch.Tensor, head: nn.Linear) -> torch.Tensor:
        """Multiply with the head one slice of the vocabulary at a time, keeping sums and the identifiers' logits."""
        width = chunk_width(states)
        firsts = range(0, head.out_features, width)
        edges = torch.searchsorted(self.vocabulary, torch.tensor([*firsts, head.out_features], device=states.device))
        sums, kept, states = [], [], states.float()
        for first, begin, end in zip(firsts, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            chunk = slice(first, first + width)
            bias = None if head.bias is None else head.bias[chunk].float()
            logits = functional.linear(states, head.weight[chunk].float(), bias)
            sums.append(logits.logsumexp(dim=-1))
            kept.append(logits[:, self.vocabulary[begin:end] - first])
        return torch.cat(kept, dim=1) - torch.stack(sums, dim=1).logsumexp(dim=1, keepdim=True)


def chunk_width(states: torch.Tensor) -> int:
    """Return how many tokens to compute logits of at a time, for states (n, d)."""
    return max(CHUNK_ELEMENTS.get(states.device.type, LARGE_CHUNK_ELEMENTS) // max(len(states), 1), 256)
