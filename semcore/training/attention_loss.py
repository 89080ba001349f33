"""An extra loss of a verifier's training: the answer is to attend to the right candidate.

To say a letter, a model has to look up which candidate matches and then which letter stands before it. The letter's
loss alone reaches the first step through the second only. Here the attention of the position that predicts the
letter is trained as well: the loss is -log of the share that the right candidate's tokens have in what it pays to the
tokens of all candidates, in each head of the middle layers; what it pays to other tokens is left to the model.

Shapes: B rows, L tokens of the longest, W tokens of the longest window, H heads, K heads of keys, D values a head,
N supervised positions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from semcore.runtime.peft_models import without_adapter

CANDIDATES = "candidates"
RIGHT = "right_candidates"
SUPERVISION = "attention_supervision"


def supervised_layers(num_layers: int) -> range:
    """Return the text layers whose attention is supervised: the middle third.

    The first layers join what stands side by side, the last ones write the letter that was found; of the base
    checkpoint's five these are the three whose heads were taught to look things up.

    >>> supervised_layers(5), supervised_layers(24)
    (range(1, 4), range(8, 16))
    """
    return range(num_layers // 3, -(-2 * num_layers // 3))


@dataclass
class Supervision:
    """One forward pass.

    Attributes:
        candidates: the candidate that each token shows, from 1 on, 0 for none; (B, L).
        right: the right candidate of what each token of the window predicts, 0 for none; (B, W).
        layers: numbers of the supervised layers.
        terms: of each such layer the sum of its losses. None once the loss is made: gradient checkpointing attends
            again in the backward pass.
    """

    candidates: torch.Tensor
    right: torch.Tensor
    layers: range
    terms: list[torch.Tensor] | None = field(default_factory=list)

    def record(self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scaling: float) -> None:
        """Add a layer's loss; arguments as its attention function has them: queries (B, H, L, D), keys (B, G, L, D)."""
        candidates, right = self.candidates.to(query.device), self.right.to(query.device)
        scores = attention_scores(query, key, mask, scaling, right.shape[1])
        term = share_losses(scores, candidates, right).sum()
        if self.terms is not None:
            self.terms.append(term)

    def finish(self) -> torch.Tensor:
        """Return the sum of the questions' losses, each the mean over the layers, ()."""
        terms, self.terms = self.terms, None
        return torch.stack([term.to(self.right.device) for term in terms or ()]).mean()


def attention_scores(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scaling: float, window: int
) -> torch.Tensor:
    """Return the logits of the last tokens' attention in float32, (B, W, H, L).

    Args:
        query: (B, H, L, D), turned to the tokens' positions.
        key: (B, K, L, D), turned likewise; a head of keys serves H / K neighbours.
        mask: additive, (B, 1, L, L).
        scaling: of the products.
        window: how many tokens of the end, W.
    """
    grouped = query[:, :, -window:].unflatten(1, (key.shape[1], -1)).flatten(2, 3)  # keys are not to be copied
    products = (grouped @ key.transpose(-1, -2)).unflatten(2, (-1, window)).flatten(1, 2)
    scores = products.float() * scaling
    if mask is not None:
        scores = scores + mask[:, :, -window:]
    return scores.transpose(1, 2)


def share_losses(scores: torch.Tensor, candidates: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return -log of the right candidate's share among all candidates, mean over the heads, (N,).

    Args:
        scores: logits of attention, (B, W, H, L).
        candidates: the candidate that each token shows, 0 for none; (B, L).
        right: the right candidate's number, 0 where nothing is supervised; (B, W).
    """
    rows, places = right.nonzero(as_tuple=True)
    own, shown = scores[rows, places], candidates[rows][:, None]
    anywhere = own.masked_fill(shown == 0, -torch.inf).logsumexp(-1)
    found = own.masked_fill(shown != right[rows, places][:, None, None], -torch.inf).logsumexp(-1)
    return (anywhere - found).mean(-1)


@contextmanager
def supervised_attention(model: Any, weight: float) -> Iterator[None]:
    """Add the loss to that of a model while it trains; evaluation is left alone, and weight 0 changes nothing.

    Args:
        model: a native InternVL model, or an adapter on one. How it attends is chosen already; its batches are those
            of rows with candidates.
        weight: of the loss.
    """
    if weight == 0:
        yield
        return
    base: Any = without_adapter(model)
    plain_loss, plain_attention = base.loss_function, base.config.text_config._attn_implementation
    layers = supervised_layers(base.config.text_config.num_hidden_layers)

    def supervise(module: Any, inputs: tuple[Any, ...], batch: dict[str, Any]) -> Any:
        marks = {name: batch.pop(name) for name in (CANDIDATES, RIGHT) if name in batch}
        if module.training and marks:
            batch[SUPERVISION] = Supervision(marks[CANDIDATES], marks[RIGHT], layers)
        return inputs, batch

    def loss(*args: Any, num_items_in_batch: Any = None, **others: Any) -> Any:
        supervision = others.pop(SUPERVISION, None)
        letters = plain_loss(*args, num_items_in_batch=num_items_in_batch, **others)
        if supervision is None:
            return letters
        count = (supervision.right > 0).sum() if num_items_in_batch is None else num_items_in_batch
        return letters + weight * (supervision.finish() / count).to(letters.device)

    base.set_attn_implementation({"text_config": _supervised(plain_attention)})
    base.loss_function = loss
    hook = base.register_forward_pre_hook(supervise, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
        base.loss_function = plain_loss
        base.set_attn_implementation({"text_config": plain_attention})


def _supervised(implementation: str) -> str:
    """Register an attention function that records what it is asked to; return its name.

    transformers hands what a model is called with, and does not know, to the attention function.
    """
    name = f"supervised_{implementation}"
    AttentionInterface.register(name, partial(_attend, implementation))
    AttentionMaskInterface.register(name, AttentionMaskInterface()[implementation])
    return name


def _attend(
    implementation: str,
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    attention_supervision: Supervision | None = None,
    **others: Any,
) -> Any:
    if attention_supervision is not None and module.layer_idx in attention_supervision.layers:
        attention_supervision.record(query, key, attention_mask, scaling)
    # Plain products are not registered: each architecture's file has its own under this name.
    own = sys.modules[type(module).__module__].eager_attention_forward
    attend = AttentionInterface().get_interface(implementation, own)
    return attend(module, query, key, value, attention_mask, scaling=scaling, **others)
