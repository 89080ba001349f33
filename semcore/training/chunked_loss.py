"""Chunked training loss, which never holds the logits of all positions.

With a vocabulary of 151,674 tokens the logits of a thousand labels are 600 MB in float32, and as much
again for their gradient. Here the output head and the cross-entropy run over one chunk of positions at a
time, and again in the backward pass, which adds a third to the head's work.

Shapes: B rows, W tokens of the longest window, H the text model's hidden size, n positions with a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from semcore.runtime.peft_models import without_adapter
from semcore.training.packing import IGNORED

ELEMENTS_PER_CHUNK = 2**25
"""Logits computed at once: 128 MB in float32."""


@contextmanager
def chunked_loss(model: Any, elements_per_chunk: int = ELEMENTS_PER_CHUNK) -> Iterator[None]:
    """Let a model compute its training loss in chunks; in the context its `logits` are the last states.

    The head is still called as a module, so adapters on it, DeepSpeed's hooks and a weight tied to the
    embedding work unchanged.

    Args:
        model: a native InternVL model, or an adapter on one.
        elements_per_chunk: positions times vocabulary of a chunk.
    """
    base: Any = without_adapter(model)
    head = base.get_output_embeddings()
    plain_forward, plain_loss = head.forward, base.loss_function
    chunk_size = max(1, elements_per_chunk // base.config.text_config.vocab_size)

    def forward(states: torch.Tensor, labels: torch.Tensor | None = None, shares: Any = None) -> torch.Tensor:
        if labels is None:
            return states
        return summed_cross_entropy(plain_forward, states, labels, chunk_size, shares)

    def loss(
        logits: torch.Tensor,
        shift_labels: torch.Tensor,
        num_items_in_batch: Any = None,
        label_choices: torch.Tensor | None = None,
        label_shares: torch.Tensor | None = None,
        **_: Any,
    ) -> Any:
        labels, shares = shift_labels.flatten().to(logits.device), None
        counted = (labels != IGNORED).nonzero()[:, 0]
        if label_choices is not None and label_shares is not None:
            labels, shares = (own.flatten(0, 1).to(logits.device) for own in (label_choices, label_shares))
            shares = shares[counted]
        total = head(logits.flatten(0, 1)[counted], labels[counted], shares)
        return total / (len(counted) if num_items_in_batch is None else num_items_in_batch)

    head.forward, base.loss_function = forward, loss
    try:
        yield
    finally:
        head.forward, base.loss_function = plain_forward, plain_loss


def summed_cross_entropy(
    head: Callable[[torch.Tensor], torch.Tensor],
    states: torch.Tensor,
    labels: torch.Tensor,
    chunk_size: int,
    shares: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the sum of the cross-entropies of labels after states (n, H), in float32.

    Args:
        head: maps states (n, H) to logits (n, vocabulary).
        states: states (n, H) of the positions that have a label.
        labels: token ids (n,); with shares those of the C tokens that share each label's place, (n, C).
        chunk_size: positions at once; with a single chunk nothing is computed twice.
        shares: each token's probability as the label, (n, C); None where every label is one token.
    """

    def one(states: torch.Tensor, labels: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
        logits = head(states).float()
        if shares is None:
            return functional.cross_entropy(logits, labels, reduction="sum")
        return -(logits.log_softmax(-1).gather(1, labels) * shares).sum()

    inputs = (states, labels) if shares is None else (states, labels, shares)
    if len(labels) <= chunk_size:
        return one(*inputs)
    chunks = zip(*(own.split(chunk_size) for own in inputs), strict=True)
    return torch.stack([checkpoint(one, *chunk, use_reentrant=False) for chunk in chunks]).sum()
