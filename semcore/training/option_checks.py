"""Checks of a training's options against each other, before anything is loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers.integrations import get_available_reporting_integrations

from semcore.data.directions import Direction
from semcore.models.quantization import check_bitsandbytes
from semcore.runtime.errors import UserError
from semcore.runtime.ranks import num_processes
from semcore.training.launcher import CONFIG_VARIABLE, find_deepspeed_config, zero_stage


def check_directions(directions: Collection[Direction], text_only: bool) -> None:
    """Refuse to train on images where an identifier model's directions show none.

    Args:
        directions: that are trained; sentences alone ask in t2i.
        text_only: vision tower and projector are frozen.

    Raises:
        UserError: nothing would reach what is to be trained.
    """
    if Direction.I2T not in directions and not text_only:
        raise UserError(
            "--directions [t2i] trains on sentences alone, which reach neither vision tower nor projector: leave "
            "--model.freeze-vision and --model.freeze-projector true"
        )


def check_losses(rdrop: float, dropout: float, fusion: str, lora_dropout: float, training: Mapping[str, Any]) -> None:
    """Refuse losses that would do nothing, or get no gradients.

    Args:
        rdrop: weight of R-Drop.
        dropout: rate in the text layers.
        fusion: "none" or "layers".
        lora_dropout: dropout of the adapter that is trained, 0 without one.
        training: the settings of the training.

    Raises:
        UserError: says what to give instead.
    """
    if rdrop > 0 and dropout == 0 and lora_dropout == 0:
        raise UserError(
            f"--losses.rdrop {rdrop} compares two passes, and without dropout they are the same: give "
            "--losses.dropout 0.1"
        )
    if fusion != "none" and training["gradient_checkpointing"] and zero_stage() == 3:
        raise UserError(
            f"--losses.fusion {fusion} gets no gradients where ZeRO-3 recomputes activations: launch with "
            "ds_configs/zero2.yaml, or give --training.gradient-checkpointing false"
        )


def check_mode(
    lora_rank: int,
    quantization: str,
    text_only: bool,
    *,
    optim: str,
    dtype: str,
    device_map: str | None,
    report_to: str,
    attention_loss: float = 0.0,
    gradient_checkpointing: bool = False,
    **_: Any,
) -> None:
    """Refuse options that the launcher's engine, the machine or the installed libraries do not support.

    Args:
        lora_rank: 0 where the whole text model is trained.
        quantization: quantisation of an adapter's base, "none" or "nf4".
        text_only: vision tower and projector are frozen.
        optim: the optimizer's name.
        dtype: precision of the weights.
        device_map: distribution of the model over one process's devices.
        report_to: libraries that losses are reported to, separated by commas.
        attention_loss: weight of the extra loss on attention.
        gradient_checkpointing: recompute activations in the backward pass.
        _: settings without constraints.

    Raises:
        UserError: options exclude each other; names them, and the alternative.
    """
    if lora_rank and not text_only:
        raise UserError(
            "--lora.rank trains the text model only: leave --model.freeze-vision and --model.freeze-projector true"
        )
    find_deepspeed_config()
    stage = zero_stage()
    if quantization != "none":
        check_bitsandbytes(f"--lora.quantization {quantization}")
        if stage == 3:
            raise UserError(
                "weights in four bits cannot be shared out by ZeRO-3: launch with ds_configs/zero2.yaml, "
                "or leave --lora.quantization none"
            )
    if optim != "adamw_torch_fused":
        check_bitsandbytes(f"--training.optim {optim}")
        if is_offloaded():
            raise UserError(
                f"DeepSpeed's offload to the CPU has an AdamW of its own and would leave {optim} out: launch with "
                "ds_configs/zero3.yaml, or leave --training.optim adamw_torch_fused"
            )
    if dtype == "bfloat16" and not lora_rank and stage is None:
        raise UserError(
            "weights in bfloat16 lose small steps: train them with DeepSpeed, which keeps a copy in float32, "
            "give --lora.rank 16, or leave --training.dtype auto"
        )
    if attention_loss and gradient_checkpointing and stage == 3:
        raise UserError(
            f"--training.attention-loss {attention_loss} gets no gradients where ZeRO-3 recomputes activations: launch "
            "with ds_configs/zero2.yaml, or give --training.gradient-checkpointing false"
        )
    if device_map is not None and (stage is not None or num_processes() > 1):
        raise UserError(
            f"--training.device-map {device_map} spreads one process over several GPUs, and here are DeepSpeed or "
            "several processes: start the recipe with python instead of accelerate launch, or leave it out"
        )
    _check_reporting(report_to)


def is_offloaded() -> bool:
    """Return whether the launcher's DeepSpeed configuration offloads the optimizer to the CPU."""
    named = os.environ.get(CONFIG_VARIABLE)
    if zero_stage() is None or named is None:
        return False
    zero = json.loads(Path(named).read_text(encoding="utf-8"))["zero_optimization"]
    return zero.get("offload_optimizer", {}).get("device", "none") != "none"


def _check_reporting(report_to: str) -> None:
    available = get_available_reporting_integrations()
    for name in report_to.split(","):
        if name.strip() not in (*available, "all", "none"):
            there = ", ".join(sorted(available)) or "none of them"
            raise UserError(
                f"--training.report-to {name.strip()} is not installed, or no library that transformers knows; "
                f"installed: {there}"
            )
