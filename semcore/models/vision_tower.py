"""Vision tower of a checkpoint as a separate model, and the description of its features."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from typing import Any, Literal

import torch
from transformers import InternVLModel

from semcore.models.checkpoint import Checkpoint
from semcore.runtime.peft_models import without_adapter

Layer = Literal["projector", "vision tower"]
FORMAT = "1"  # version of the stored features; a new number invalidates them


class _VisionPart(InternVLModel):
    """An InternVL without a text model, which only `forward` needs."""

    def __init__(self, config: Any, modules: dict[str, torch.nn.Module]):
        torch.nn.Module.__init__(self)  # the parent's would build every module again
        self.config = config
        for name, module in modules.items():
            self.add_module(name, module)


def vision_part(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device | str) -> Checkpoint:
    """Return a checkpoint whose model supports only `get_image_features`.

    The weights are shared with the checkpoint where precision and device are the same, else copies.

    Args:
        checkpoint: the whole model; it is not changed.
        dtype: precision of the vision tower and the projector.
        device: their device.
    """
    modules = {name: _at(module, dtype, device) for name, module in _modules(checkpoint, "projector").items()}
    return replace(checkpoint, model=_VisionPart(_base(checkpoint).config, modules))


def describe_vision(checkpoint: Checkpoint, layer: Layer, dtype: torch.dtype) -> dict[str, str]:
    """Return everything that an image's features depend on, apart from the image.

    Args:
        checkpoint: the model with the vision tower.
        layer: the layer whose output is stored; the projector's weights are included only for "projector".
        dtype: precision of the weights; weights that are equal in it give the same features.
    """
    config, processor = _base(checkpoint).config, checkpoint.image_processor.to_dict()
    preparation = {
        "image processor": {name: value for name, value in processor.items() if not name.startswith("_")},
        "projector's input": [
            config.downsample_ratio,
            config.vision_feature_layer,
            config.vision_feature_select_strategy,
        ],
    }
    return {
        "weights hash": _weights_hash(checkpoint, layer, dtype),
        "preprocessing hash": hashlib.sha256(json.dumps(preparation, sort_keys=True).encode()).hexdigest(),
        "layer": layer,
        "precision": str(dtype).removeprefix("torch."),
        "format": FORMAT,
    }


def _weights_hash(checkpoint: Checkpoint, layer: Layer, dtype: torch.dtype) -> str:
    digest = hashlib.sha256()
    for module in _modules(checkpoint, layer).values():
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            values = tensor.detach().to("cpu", dtype).contiguous()
            digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _modules(checkpoint: Checkpoint, layer: Layer) -> dict[str, torch.nn.Module]:
    inner = _base(checkpoint).model
    tower = {"vision_tower": inner.vision_tower}
    return tower if layer == "vision tower" else {**tower, "multi_modal_projector": inner.multi_modal_projector}


def _base(checkpoint: Checkpoint) -> Any:
    model = checkpoint.model
    return without_adapter(model)


def _at(module: torch.nn.Module, dtype: torch.dtype, device: torch.device | str) -> torch.nn.Module:
    own = next(module.parameters())
    same = own.dtype == dtype and own.device == torch.device(device)
    return module if same else copy.deepcopy(module).to(device, dtype).eval()
