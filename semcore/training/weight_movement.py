"""Weight movement: the weights that a training changed, compared with those it was meant to change.

Adapters saved unchanged and new rows of an untied head that are never trained are failures that no library reports, so
the weights are compared after every training. Findings are warnings, printed after the model is saved: a weight may
stay for a good reason, and hours of training must not be lost for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

FEW_STEPS = 10  # in fewer, a small learning rate may be below the precision of bfloat16


def trainable_weights(model: Any) -> dict[str, int]:
    """Return name -> number of dimensions of the trained parameters."""
    return {name: parameter.ndim for name, parameter in model.named_parameters() if parameter.requires_grad}


def freeze(model: Any, *, vision: bool, projector: bool) -> None:
    """Train the text model, and the vision tower and the projector where they are not frozen.

    Args:
        model: a native InternVL model.
        vision: freeze the vision tower.
        projector: freeze the multi-modal projector.
    """
    for weight in model.parameters():
        weight.requires_grad_(weight.is_floating_point())  # quantised weights are integers, and have no gradient
    model.model.vision_tower.requires_grad_(not vision)
    model.model.multi_modal_projector.requires_grad_(not projector)


def weight_hashes(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return name -> hash of each weight (of any shape) in bfloat16, in which frozen weights are exact."""
    return {name: _hash(tensor) for name, tensor in state.items()}


def unexpected_moves(
    before: Mapping[str, str], after: Mapping[str, str], trainable: Mapping[str, int], num_steps: int
) -> list[str]:
    """Return a sentence for frozen weights that have moved, and for trained weight matrices that have not.

    Args:
        before: name -> hash, of all parameters.
        after: the same after the training; missing names are not checked.
        trainable: the trained parameters, from `trainable_weights`.
        num_steps: number of steps; after a few only the frozen weights are checked.
    """
    sentences = []
    moved = {name for name in before if name in after and before[name] != after[name]}
    wrongly = sorted(moved - trainable.keys())
    if wrongly:
        sentences.append(f"{len(wrongly)} frozen weights have changed in training, {wrongly[0]} the first")
    still = sorted(name for name, ndim in trainable.items() if ndim > 1 and name in after and name not in moved)
    if still and num_steps >= FEW_STEPS:
        sentences.append(f"{len(still)} weights have not changed in {num_steps} steps, {still[0]} the first")
    return sentences


def _hash(tensor: torch.Tensor) -> str:
    bits = tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16)
    return hashlib.sha256(bits.numpy().data).hexdigest()
