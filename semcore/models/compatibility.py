"""Compatibility checks of a checkpoint, made before its weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semcore.models.special_tokens import closing_token_id
from semcore.models.weight_files import list_weights
from semcore.runtime.errors import UserError
from semcore.runtime.typed_commands import command

NATIVE, ORIGINAL = "InternVLForConditionalGeneration", "InternVLChatModel"
IMAGE_START, IMAGE_CONTEXT, IMAGE_END = "<img>", "<IMG_CONTEXT>", "</img>"


def check_model(name: str, config: Mapping[str, Any]) -> None:
    """Check that a checkpoint is a native InternVL and, where it is a folder, that its weights are complete.

    Args:
        name: a folder or a hub id.
        config: its `config.json`.

    Raises:
        UserError: it has another architecture, or files are missing or truncated.
    """
    if not config:
        raise UserError(f"{name} has no config.json: it is no checkpoint folder; give another, or a hub id")
    found = (config.get("architectures") or [config.get("model_type", "no named architecture")])[0]
    if found == ORIGINAL:
        raise UserError(f"{name} is in InternVL's original layout ({ORIGINAL}); convert it once: `{_conversion(name)}`")
    if found not in (NATIVE, "internvl"):
        raise UserError(f"{name} holds {found}; semcore works with native InternVL checkpoints ({NATIVE})")
    if Path(name).is_dir():
        list_weights(Path(name))


def _conversion(name: str) -> str:
    """Return the command line that converts a checkpoint, after a download where it is on the hub."""
    short = Path(name).name
    if Path(name).is_dir():
        return command("semcore", "convert-checkpoint", Path(name), f"{short}-native")
    download = command("hf", "download", name, "--local-dir", short)
    return f"{download} && {command('semcore', 'convert-checkpoint', short, f'{short}-native')}"


def check_tokenizer(name: str, tokenizer: Any, image_token_id: int) -> None:
    """Check that a tokenizer has the tokens and the chat template that prompts with images need.

    Args:
        name: the checkpoint, as it was given.
        tokenizer: the checkpoint's tokenizer.
        image_token_id: the model's id of the visual token.

    Raises:
        UserError: InternVL's image tokens, the chat template, or a token that ends an answer are missing.
    """
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in (IMAGE_START, IMAGE_CONTEXT, IMAGE_END) if token not in vocabulary]
    if missing:
        raise UserError(
            f"the tokenizer of {name} has no {', '.join(missing)}: it is not InternVL's; "
            "copy the tokenizer's files from the checkpoint that the model was made from"
        )
    if vocabulary[IMAGE_CONTEXT] != image_token_id:
        raise UserError(
            f"the tokenizer of {name} writes {IMAGE_CONTEXT} as {vocabulary[IMAGE_CONTEXT]}, its model reads images at "
            f"{image_token_id}: they are not of the same checkpoint"
        )
    if not tokenizer.chat_template:
        raise UserError(
            f"{name} has no chat template; copy chat_template.jinja from the checkpoint that the model was made from"
        )
    try:
        closing_token_id(tokenizer)
    except ValueError as error:
        raise UserError(
            f"the chat template and the tokenizer of {name} do not say where an answer ends ({error}); "
            "set eos_token in tokenizer_config.json"
        ) from None
