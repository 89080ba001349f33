"""Extra modules of a model, the set head and the layer fusion, as files beside its checkpoint.

    extras.json           what they are: units and pooling of the set head, layers of the fusion
    extras.safetensors    their weights, in float32

They are submodules of the model while it trains and searches, so that the optimizer and ZeRO see them; the checkpoint's
own weights, or the adapter's, are saved without them and open in any tool.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from semcore.models.layer_fusion import LAYER_FUSION, LayerFusion, attach_layer_fusion, find_layer_fusion
from semcore.models.set_head import SET_HEAD, SetHead, attach_set_head, find_set_head
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from semcore.runtime.peft_models import without_adapter

CONFIG, WEIGHTS = "extras.json", "extras.safetensors"
NAMES = (SET_HEAD, LAYER_FUSION)


def extras_of(model: Any) -> dict[str, Any]:
    """Return name -> module of a model's extra modules."""
    found = {SET_HEAD: find_set_head(model), LAYER_FUSION: find_layer_fusion(model)}
    return {name: module for name, module in found.items() if module is not None}


def train_extras(model: Any, names: Collection[str]) -> None:
    """Let these extra modules train, and freeze the others."""
    for name, module in extras_of(model).items():
        module.requires_grad_(name in names)


def split_state(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the extra modules' weights, "set_head.linear.weight" say, and the others under their full names.

    Args:
        state: name -> weight (of any shape) of a model, or of an adapter on one.
    """
    extras: dict[str, torch.Tensor] = {}
    others: dict[str, torch.Tensor] = {}
    for name, weight in state.items():
        short = name.removeprefix("base_model.model.")
        if short.startswith(tuple(f"{own}." for own in NAMES)):
            extras[short] = weight
        else:
            others[name] = weight
    return extras, others


def write_extras(folder: Path, model: Any, weights: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write a model's extra modules into a folder; nothing where there are none.

    Args:
        folder: the checkpoint's folder.
        model: the model that they belong to.
        weights: name -> weight (of any shape) as `split_state` has them; by default those they have here.
    """
    modules = extras_of(model)
    if not modules:
        return
    if weights is None:
        weights = {f"{name}.{key}": own for name, module in modules.items() for key, own in module.state_dict().items()}
    save_file({name: weight.detach().cpu().float().contiguous() for name, weight in weights.items()}, folder / WEIGHTS)
    write_json(folder / CONFIG, {name: _config_of(module) for name, module in modules.items()})


def load_extras(folder: Path, model: Any) -> None:
    """Attach the extra modules of a checkpoint folder to its model; nothing where there are none.

    Raises:
        UserError: a file is missing or damaged, or belongs to another model.
    """
    if not (folder / CONFIG).is_file():
        return
    config, weights = read_json(folder / CONFIG), read_weights(folder)
    hidden_size = without_adapter(model).config.text_config.hidden_size
    try:
        if SET_HEAD in config:
            attach_set_head(model, SetHead(config[SET_HEAD]["units"], hidden_size, config[SET_HEAD]["pool"]))
        if LAYER_FUSION in config:
            attach_layer_fusion(model, LayerFusion(config[LAYER_FUSION]["layers"], hidden_size))
        put_weights(model, weights)
    except (KeyError, TypeError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder / CONFIG} and {WEIGHTS} do not fit the model beside them ({reason}); train it again"
        ) from None


def put_weights(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Give a model's extra modules the weights that `write_extras` wrote, name -> weight (of any shape)."""
    for name, module in extras_of(model).items():
        prefix = f"{name}."
        module.load_state_dict({key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)})


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights (of any shape) that `write_extras` wrote into a folder, {} where it wrote none.

    Raises:
        UserError: their file is missing or damaged.
    """
    if not (folder / CONFIG).is_file():
        return {}
    try:
        return load_file(folder / WEIGHTS)
    except FileNotFoundError:
        raise UserError(f"{folder} has {CONFIG} and no {WEIGHTS}; copy the whole folder again") from None
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS} is damaged ({error}); copy the whole folder again") from None


@contextmanager
def without_extras(model: Any) -> Iterator[None]:
    """Take a model's extra modules out of its weights, for as long as it is saved."""
    base, modules = without_adapter(model), extras_of(model)
    for name in modules:
        delattr(base, name)
    try:
        yield
    finally:
        for name, module in modules.items():
            base.add_module(name, module)


def _config_of(module: SetHead | LayerFusion) -> dict[str, Any]:
    if isinstance(module, SetHead):
        return {"units": list(module.units), "pool": module.pool}
    return {"layers": list(module.layers)}
