"""Which weights a training changed, compared with which it was to change.

Adapters saved unchanged and new rows of an untied head that never train are failures that no library
reports (design paper, internvl, section 5.4): so the weights are compared after every training. What is found is said
once the model is saved: a weight may rest for a good reason, and hours of training are not to be lost for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

FEW_STEPS = 10  # in fewer, a small learning rate may not move a digit of bfloat16


def trainable_weights(model: Any) -> dict[str, int]:
    """Return name -> number of dimensions of the parameters that are trained."""
    return {name: parameter.ndim for name, parameter in model.named_parameters() if parameter.requires_grad}


def freeze(model: Any, *, vision: bool, projector: bool) -> None:
    """Train the text model, and the vision tower and the projector where they are not frozen.

    Args:
        model: a native InternVL model.
        vision: freeze the vision tower.
        projector: freeze the multi-modal projector.
    """
    for weight in model.parameters():
        weight.requires_grad_(weight.is_floating_point())  # packed weights are whole numbers, and cannot train
    model.model.vision_tower.requires_grad_(not vision)
    model.model.multi_modal_projector.requires_grad_(not projector)


def weight_hashes(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return name -> hash of each weight at bfloat16's precision, in which frozen weights stay what they were."""
    return {name: _hash(tensor) for name, tensor in state.items()}


def unexpected_moves(
    before: Mapping[str, str], after: Mapping[str, str], trainable: Mapping[str, int], num_steps: int
) -> list[str]:
    """Return a sentence for frozen weights that have moved, and for weight matrices that train and have not.

    Args:
        before: name -> hash, of all parameters.
        after: the same after the training; what is missing is not checked.
        trainable: the parameters that were to move, from `trainable_weights`.
        num_steps: of the training; after a few steps only the frozen weights are checked.
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
    digits = tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16)
    return hashlib.sha256(digits.numpy().data).hexdigest()
