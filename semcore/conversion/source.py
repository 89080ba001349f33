"""The original checkpoint folder: its configuration and its weight files, read without its code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from semcore.errors import UserError
from semcore.files import read_json

ARCHITECTURE = "InternVLChatModel"
TEXT_ARCHITECTURES = ("Qwen2ForCausalLM", "InternLM2ForCausalLM")
NEEDED_OF_TEXT = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class WeightFile:
    """One weight file: the shape and the safetensors dtype ("BF16", say) of every tensor in it."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of an original checkpoint, checked for what can be converted.

    Raises:
        UserError: there is no such folder, or it is not InternVL2.5 or InternVL3 in the original layout.
    """
    if not folder.is_dir():
        raise UserError(
            f"there is no checkpoint folder {folder}; download one first, for example with "
            f"hf download OpenGVLab/InternVL2_5-1B --local-dir {folder}"
        )
    config = read_json(folder / "config.json")
    _check_architecture(folder, config)
    for key, needed in {"ps_version": "v2", "use_backbone_lora": 0, "use_llm_lora": 0}.items():
        found = config.get(key, needed)
        if found != needed:
            hint = "merge the LoRA weights first" if "lora" in key else "InternVL2.5 and InternVL3 have it"
            raise UserError(f"{folder}/config.json has {key} {found!r}, only {needed!r} can be converted; {hint}")
    return config


def _check_architecture(folder: Path, config: dict[str, Any]) -> None:
    found = _first(config)
    if found == "InternVLForConditionalGeneration":
        raise UserError(f"{folder} is a native checkpoint already; use it as it is, with --model {folder}")
    if found != ARCHITECTURE or not {"llm_config", "vision_config"} <= config.keys():
        raise UserError(
            f"{folder} holds {found or 'no named architecture'}; convert-checkpoint takes {ARCHITECTURE}, "
            "the original layout of InternVL2.5 and InternVL3"
        )
    text = _first(config["llm_config"])
    if text not in TEXT_ARCHITECTURES:
        raise UserError(
            f"{folder} has the text model {text}; convert-checkpoint knows {' and '.join(TEXT_ARCHITECTURES)}"
        )
    missing = [key for key in NEEDED_OF_TEXT if not isinstance(config["llm_config"].get(key), int)]
    if missing:
        raise UserError(f"{folder}/config.json does not say llm_config.{missing[0]}; download it again")


def _first(config: dict[str, Any]) -> str | None:
    names = config.get("architectures")
    return names[0] if names else None


def list_weights(folder: Path) -> list[WeightFile]:
    """Return the weight files of a checkpoint, in order, having read their headers only.

    Raises:
        UserError: a file is missing, damaged or cut short.
    """
    paths = _weight_paths(folder)
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder} is not whole: {len(missing)} of {len(paths)} weight files are missing, {missing[0]} the first; "
            "download it again"
        )
    return [_read_header(path) for path in paths]


def _weight_paths(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        weight_map = read_json(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise UserError(f"{folder / INDEX} names no weights; download it again")
        return [folder / name for name in sorted(set(weight_map.values()))]
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} has no weights: neither {WEIGHTS} nor {INDEX}; download it again")
    return [folder / WEIGHTS]


def _read_header(path: Path) -> WeightFile:
    with opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
    return WeightFile(path, shapes, {name: part.get_dtype() for name, part in slices.items()})


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a weight file for reading single tensors; they are views of the file, not copies.

    Raises:
        UserError: it is damaged or cut short.
    """
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"the weight file {path} is damaged or cut short ({error}); download it again") from None
    with file:
        yield file
