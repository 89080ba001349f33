"""Parameter counts of a model, from its `config.json` and the meta device: no weight is read or allocated."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from transformers import InternVLConfig

from semcore.models.compatibility import NATIVE, ORIGINAL
from semcore.models.conversion.config import native_config
from semcore.models.conversion.original_checkpoint import read_config
from semcore.models.conversion.weights import native_shapes
from semcore.models.quantization import Quantization
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json
from semcore.runtime.packaged_files import asset_folder

TEXT, PROJECTOR, VISION = "language_model.", "multi_modal_projector.", "vision_tower."


@dataclass(frozen=True)
class Parameters:
    """Parameter counts of a model: all, trained, of its largest weight, and in four bits."""

    total: int
    trained: int
    largest: int
    packed: int = 0


def read_model_config(name: str) -> InternVLConfig:
    """Return the native configuration of a checkpoint, native or original; its weights are not needed.

    Args:
        name: a folder that holds `config.json`, a hub id whose configuration is cached, or InternVL2.5 by its name.

    Raises:
        UserError: there is no such configuration here, or it is of another architecture.
    """
    folder = _folder_of(name)
    content = read_json(folder / "config.json")
    architecture = (content.get("architectures") or ["no named architecture"])[0]
    if architecture == NATIVE:
        return InternVLConfig(**content)
    if architecture != ORIGINAL:
        raise UserError(f"{name} holds {architecture}; plan knows {NATIVE} and {ORIGINAL}")
    original = read_config(folder)
    # The ids do not affect sizes; the published checkpoints of this layout have an untied head.
    return native_config(original, tied=False, dtype="bfloat16", image_token_id=0, end_token_id=0)


def count_parameters(
    config: InternVLConfig,
    *,
    num_new_tokens: int,
    freeze_vision: bool,
    freeze_projector: bool,
    lora_rank: int,
    target_modules: Sequence[str],
    quantization: Quantization = "none",
    num_extra: int = 0,
) -> Parameters:
    """Count the parameters of a fine-tuning, all and trained.

    Args:
        config: the model's configuration.
        num_new_tokens: rows that cluster tokens add to the embedding and to an untied head.
        freeze_vision: the vision tower is not trained.
        freeze_projector: the projector is not trained.
        lora_rank: 0 where the whole text model is trained.
        target_modules: names of the text model's linear layers that get LoRA.
        quantization: "nf4" where the text model's linear layers are in four bits.
        num_extra: parameters of extra modules, from `count_extras`; they train whole.

    Raises:
        UserError: `target_modules` names no layer.
    """
    shapes = {name: _grown(name, shape, num_new_tokens) for name, shape in native_shapes(config).items()}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    whole, largest = sum(sizes.values()), max(sizes.values())
    if lora_rank:
        added = _lora_size(shapes, lora_rank, target_modules)
        rows = num_new_tokens * sum(shape[1] for name, shape in shapes.items() if _is_per_token(name))
        packed = sum(map(math.prod, _linear_layers(shapes).values())) if quantization == "nf4" else 0
        return Parameters(whole + added + rows + num_extra, added + rows + num_extra, largest, packed)
    trained = (TEXT, *((VISION,) if not freeze_vision else ()), *((PROJECTOR,) if not freeze_projector else ()))
    num_trained = sum(size for name, size in sizes.items() if name.startswith(trained))
    return Parameters(whole + num_extra, num_trained + num_extra, largest)


def count_extras(config: InternVLConfig, num_units: int, num_fused: int) -> int:
    """Count the parameters of a set head and of a layer fusion.

    Args:
        config: the model's configuration.
        num_units: units that the set head weighs, 0 for no set head.
        num_fused: layers that are fused, 0 for none.
    """
    text: Any = config.text_config
    width, fused = text.hidden_size, min(num_fused, text.num_hidden_layers)
    coarse, gates = fused * width**2 + width, fused * (2 * width**2 + width)
    return num_units * (width + 1) + (coarse + gates + 2 if fused else 0)


def _folder_of(name: str) -> Path:
    if (Path(name) / "config.json").is_file():
        return Path(name)
    published = re.match(r"InternVL2_5-[1248]B(?=$|-)", Path(name).name)
    if published and not Path(name).exists():  # neither converted nor downloaded yet
        return asset_folder("published") / published[0]
    if Path(name).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(
            f"there is no {Path(name) / 'config.json'}; give --model a folder that holds one (weights are not needed), "
            "or a hub id"
        )
    cached = try_to_load_from_cache(name, "config.json")
    if not isinstance(cached, str):
        raise UserError(
            f"{name} is no folder here, and its config.json is not in the Hugging Face cache; "
            f"get it with: hf download {name} config.json"
        )
    return Path(cached).parent


def _is_per_token(name: str) -> bool:
    return name.endswith(("embed_tokens.weight", "lm_head.weight"))


def _grown(name: str, shape: tuple[int, ...], num_new_tokens: int) -> tuple[int, ...]:
    return (shape[0] + num_new_tokens, *shape[1:]) if _is_per_token(name) else shape


def _lora_size(shapes: dict[str, tuple[int, ...]], rank: int, target_modules: Sequence[str]) -> int:
    """Return the number of parameters in the LoRA matrices of all target layers."""
    chosen = [shape for name, shape in _linear_layers(shapes).items() if name.split(".")[-2] in target_modules]
    if not chosen:
        raise UserError(f"lora.target_modules {list(target_modules)} names no layer of the text model")
    return sum(rank * sum(shape) for shape in chosen)


def _linear_layers(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the text model's linear layers."""
    return {
        name: shape
        for name, shape in shapes.items()
        if name.startswith(TEXT) and len(shape) == 2 and not _is_per_token(name)
    }
