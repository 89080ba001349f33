"""Conversion of a checkpoint: all inputs are checked first, the result is written beside the target and renamed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import GenerationConfig, GotOcr2ImageProcessorPil, InternVLConfig

from semcore.models.conversion.config import image_side, native_config, text_heads
from semcore.models.conversion.original_checkpoint import read_config
from semcore.models.conversion.tokenizer import convert_tokenizer
from semcore.models.conversion.weights import convert_weights, is_tied, plan_moves, stored_dtype
from semcore.models.weight_files import WeightFile, list_weights
from semcore.runtime.atomic import check_new, new_folder
from semcore.runtime.errors import UserError

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's, as in the original's build_transform


def convert_checkpoint(source: Path, target: Path, *, progress: bool = False) -> InternVLConfig:
    """Convert an original InternVL2.5 or InternVL3 folder to a native one.

    Memory is bounded by one weight file, and no code of the checkpoint runs.

    Args:
        source: folder with `config.json`, safetensors and tokenizer of an `InternVLChatModel`.
        target: the new folder; it appears when everything is written.
        progress: show a bar over the weight files.

    Returns:
        The native configuration.

    Raises:
        UserError: the source is not such a folder or not whole, the target exists, or the disk is full.
    """
    check_new(source, target)
    original = read_config(source)
    tokenizer = convert_tokenizer(source, original)
    files = list_weights(source)
    config = native_config(
        original,
        tied=is_tied(files),
        dtype=stored_dtype(files),
        image_token_id=tokenizer.get_vocab()["<IMG_CONTEXT>"],
        end_token_id=tokenizer.eos_token_id,
    )
    moves = plan_moves(files, config, text_heads(original))
    _check_space(files, target)
    with new_folder(target) as folder:
        shown = tqdm(files, desc="weights", unit="file", disable=not progress)
        convert_weights(shown, len(files), moves, folder)
        for part in (config, tokenizer, _image_processor(original), _generation(tokenizer)):
            part.save_pretrained(folder)
    return config


def _check_space(files: list[WeightFile], target: Path) -> None:
    needed = sum(file.path.stat().st_size for file in files)
    place = next(folder for folder in (target.absolute().parent, *target.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"{target} needs {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB free; "
            "free some or give a DST on another disk"
        )


def _image_processor(original: dict[str, Any]) -> GotOcr2ImageProcessorPil:
    """Return an image processor with one tile per image by default, as in the published native folders."""
    side = image_side(original)
    return GotOcr2ImageProcessorPil(
        size={"height": side, "width": side},
        crop_to_patches=False,
        min_patches=original.get("min_dynamic_patch", 1),
        max_patches=original.get("max_dynamic_patch", 12),
        image_mean=MEAN,
        image_std=STD,
    )


def _generation(tokenizer: Any) -> GenerationConfig:
    return GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
