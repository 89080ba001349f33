"""R-Drop: the divergence between two passes over the same row, and the dropout that makes them differ.

R-Drop (Liang et al., 2021; CART, section 3.5, equation 7) compares the predictions P and Q of two passes:

    L_KL = sum P log(P/Q) + sum Q log(Q/P) = sum (P - Q)(log P - log Q)

per predicted token, over the whole vocabulary. Every row stands twice in a batch, so the passes share no dropout. The
text models of InternVL drop nothing out as they come: two passes would be equal to the bit.

Shapes: n positions with a label in each pass, H the text model's hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from semcore.runtime.peft_models import without_adapter


def two_pass_losses(
    head: Callable[[torch.Tensor], torch.Tensor], first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Return the summed cross-entropy of both passes and their summed divergence, (2,), in float32.

    Args:
        head: maps states (n, H) to logits (n, vocabulary).
        first: states of one pass (n, H).
        second: states of the other (n, H).
        labels: token ids (n,).
    """
    p, q = (head(states).float().log_softmax(-1) for states in (first, second))
    entropy = functional.nll_loss(p, labels, reduction="sum") + functional.nll_loss(q, labels, reduction="sum")
    return torch.stack([entropy, ((p.exp() - q.exp()) * (p - q)).sum()])


@contextmanager
def dropout(model: Any, rate: float) -> Iterator[None]:
    """Drop out attention weights and the outputs of the MLPs of every text layer while a model trains.

    Rate 0 changes nothing, and evaluation is left alone.

    Args:
        model: a native InternVL model, or an adapter on one.
        rate: fraction that is dropped.
    """
    if rate == 0:
        yield
        return
    base: Any = without_adapter(model)
    layers = base.get_decoder().layers
    before = [layer.self_attn.attention_dropout for layer in layers]

    def drop(module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return functional.dropout(output, rate, module.training)

    hooks = [layer.mlp.register_forward_hook(drop) for layer in layers]
    for layer in layers:
        layer.self_attn.attention_dropout = rate
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, own in zip(layers, before, strict=True):
            layer.self_attn.attention_dropout = own
