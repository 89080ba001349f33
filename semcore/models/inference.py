"""Loading of checkpoints for inference: device, precision, adapters merged."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import GenerationConfig

from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.runtime.errors import UserError
from semcore.runtime.native_precision import native_dtype
from semcore.runtime.peft_models import is_peft_model

Dtype = Literal["auto", "bfloat16", "float32"]


def load_for_inference(
    name_or_path: str | Path, *, dtype: Dtype = "auto", device: str | None = None, base: str | Path | None = None
) -> Checkpoint:
    """Load a checkpoint in evaluation mode; an adapter is merged into its base.

    Args:
        name_or_path: a checkpoint folder, a hub id, or an adapter folder.
        dtype: "float32", "bfloat16", or "auto" for bfloat16 where the device multiplies it natively.
        device: "cpu", "cuda", ...; the fastest there is by default.
        base: the present path of an adapter's base, if it has moved.

    Raises:
        UserError: it cannot be loaded, or there is no such device.
    """
    device = device or default_device()
    check_device(device)
    dtype = native_dtype(device) if dtype == "auto" else dtype
    checkpoint = load_checkpoint(name_or_path, dtype=dtype, device=device, base=base)
    if is_peft_model(checkpoint.model):
        checkpoint = replace(checkpoint, model=checkpoint.model.merge_and_unload().eval())
    if checkpoint.model.dtype == torch.bfloat16:
        keep_head_exact(checkpoint.model)
    # A checkpoint's generation config may set sampling or penalties, which would apply wherever a search sets nothing.
    checkpoint.model.generation_config = GenerationConfig()
    return checkpoint


def keep_head_exact(model: Any) -> None:
    """Compute a model's logits in float32, whatever the precision of the rest.

    With logits rounded to bfloat16, the best identifier of a half-trained model differs from that in
    float32 for one query in ten, and about four of the twenty best tokens are exact ties; most of this
    comes from the rounding of the logits. The head's copy takes four bytes per weight: 0.5 GB for
    InternVL2.5-1B.
    """
    model.set_output_embeddings(copy.deepcopy(model.get_output_embeddings()).float())
    model.get_decoder().register_forward_hook(_states_to_float32)


def _states_to_float32(_module: Any, _arguments: Any, output: Any) -> Any:
    output.last_hidden_state = output.last_hidden_state.float()
    return output


def default_device() -> str:
    """Return the fastest available device; each process of a launcher has its own GPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        UserError: there is no such device here.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"there is no device {device!r} here ({reason}); leave --device out, or give cpu") from None
