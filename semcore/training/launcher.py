"""Facts about the launcher: its engine, ZeRO stage, device and precision.

DeepSpeed is chosen only by the launcher (`accelerate launch --config_file ds_configs/X.yaml`). On
CPUs the backend must be named and `TrainingArguments(deepspeed=...)` left out: with it, each process
silently trains alone, on the same rows.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from semcore.runtime.errors import UserError
from semcore.runtime.extension_locks import remove_stale_locks
from semcore.runtime.native_precision import native_dtype
from semcore.runtime.packaged_files import resource_folder
from semcore.runtime.ranks import is_main_process, num_processes

logger = logging.getLogger(__name__)
CONFIG_VARIABLE = "ACCELERATE_DEEPSPEED_CONFIG_FILE"


def find_deepspeed_config() -> None:
    """Make the path of the DeepSpeed configuration in a launcher's YAML valid from any folder.

    Raises:
        UserError: there is no such file.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named is None or Path(named).is_file():
        return
    ours = resource_folder("ds_configs") / Path(named).name
    if not ours.is_file():
        raise UserError(f"there is no DeepSpeed configuration {named}; `semcore init DIR` writes a fresh set")
    os.environ[CONFIG_VARIABLE] = str(ours)


def zero_stage() -> int | None:
    """Return the launcher's ZeRO stage; None without DeepSpeed."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") != "true":
        return None
    named = os.environ.get(CONFIG_VARIABLE)
    if named is None:
        return int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
    return int(json.loads(Path(named).read_text(encoding="utf-8"))["zero_optimization"]["stage"])


def free_extensions() -> None:
    """Remove the locks that killed processes have left on DeepSpeed's operations, which it loads when it starts."""
    if zero_stage() is None:
        return
    from torch.utils.cpp_extension import get_default_build_root  # looks for compilers

    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR", get_default_build_root()))
    say = logger.warning if is_main_process() else logger.debug
    remove_stale_locks(folder, say, removes=int(os.environ.get("LOCAL_RANK", "0")) == 0)


def engine_facts() -> dict[str, Any]:
    """Return the manifest's entries on the engine: "engine", "zero_stage", "num_processes"."""
    stage = zero_stage()
    facts: dict[str, Any] = {"engine": "ddp" if num_processes() > 1 else "none", "num_processes": num_processes()}
    return facts if stage is None else {**facts, "engine": "deepspeed", "zero_stage": stage}


def own_device() -> torch.device:
    """Return the device of this process."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def recompute_activations(model: Any) -> None:
    """Switch gradient checkpointing on.

    ZeRO-3 needs the reentrant kind to keep frozen weights in place; DDP needs the other, with which a
    parameter's gradient is ready only once per step.
    """
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": zero_stage() == 3})


def choose_attention(model: Any, wish: str = "auto") -> None:
    """Set the attention implementation; "auto" is eager on a CPU, else the library's choice.

    With a mask, torch's fused CPU kernel takes 2.5 times as long in the backward pass: a step on
    rows of 64 to 160 tokens takes 1.4 times as long (two cores, bfloat16, measured 2026-11-21).

    Args:
        model: a native InternVL model.
        wish: a name that transformers knows, or "auto".
    """
    if wish != "auto":
        model.set_attn_implementation(wish)
    elif own_device().type == "cpu":
        model.set_attn_implementation("eager")


def computes_bf16(wish: str) -> bool:
    """Return whether to compute in bfloat16: "yes", "no", or "auto" for "yes" where the device does it natively."""
    return wish == "yes" or (wish == "auto" and native_dtype(own_device().type) == "bfloat16")


def computing_dtype(wish: str) -> torch.dtype:
    """Return the dtype of the computation, by `computes_bf16`."""
    return torch.bfloat16 if computes_bf16(wish) else torch.float32


def quiet_libraries() -> None:
    """Silence the libraries' progress bars, and the other processes' copies of warnings."""
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed detects it too, but with a warning
    for name in ("DeepSpeed", "accelerate", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.WARNING if is_main_process() else logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
