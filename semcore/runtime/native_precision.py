"""Precision that a device multiplies natively."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal


def native_dtype(device: str) -> Literal["bfloat16", "float32"]:
    """Return "bfloat16" where the device multiplies it faster than float32, else "float32"."""
    if device.split(":")[0] == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & cpu_flags() else "float32"


@cache
def cpu_flags() -> set[str]:
    """Return what the first processor can do, in Linux's words; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())
