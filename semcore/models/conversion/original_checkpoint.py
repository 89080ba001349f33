"""Original checkpoint folder: its configuration, read without running its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semcore.models.compatibility import NATIVE, ORIGINAL
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json

TEXT_ARCHITECTURES = ("Qwen2ForCausalLM", "InternLM2ForCausalLM")
NEEDED_OF_TEXT = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of an original checkpoint, after checking that it can be converted.

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
    if found == NATIVE:
        raise UserError(f"{folder} is a native checkpoint already; use it as it is, with --model {folder}")
    if found != ORIGINAL or not {"llm_config", "vision_config"} <= config.keys():
        raise UserError(
            f"{folder} holds {found or 'no named architecture'}; convert-checkpoint takes {ORIGINAL}, "
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
