"""Inference with a set head: log-probabilities and weights of identifiers' units for a query, for priors in the search.

Shapes: Q queries, P prompt tokens, U units of the set vocabulary (`SetHead.units`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from semcore.models.batching import last_hidden
from semcore.models.set_head import SetHead, find_set_head, pool_prompts


@torch.inference_mode()
def set_log_probs(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the log-probability of every unit for each query, (Q, U): log softmax of the logits.

    Args:
        model: a model with a set head, see `find_set_head`.
        inputs: left-padded prompts, from `semcore.models.batching.model_inputs`.
    """
    return set_logits(model, inputs).log_softmax(-1)


@torch.inference_mode()
def set_weights(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the weight of every unit for each query, h >= 0 (Q, U); arguments as in `set_log_probs`."""
    head = _head_of(model)
    return head.weigh(last_hidden(model, **inputs), inputs["attention_mask"])


def set_logits(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the set head's logits (Q, U) for prompts; arguments as in `set_log_probs`."""
    head = _head_of(model)
    states = last_hidden(model, **inputs)
    logits: torch.Tensor = head(pool_prompts(states, inputs["attention_mask"], head.pool))
    return logits


def _head_of(model: Any) -> SetHead:
    head = find_set_head(model)
    if head is None:
        raise ValueError("the model has no set head: train it with --losses.set-weight 0.5")
    return head
