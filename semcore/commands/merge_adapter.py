"""Merge an adapter into the base that it was trained on, as one checkpoint.

    semcore merge-adapter runs/lora merged
    semcore merge-adapter runs/lora/identifier_model merged --dtype bfloat16

The result is a native checkpoint, for any tool that reads those.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semcore.runtime.settings import LineageSettings


@dataclass
class MergeSettings(LineageSettings):
    """What `semcore merge-adapter` takes."""

    src: Path
    """The adapter's folder, or a run folder that holds one."""
    dst: Path
    """The checkpoint folder to make."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision to write; "auto" keeps the base's."""


def main(settings: MergeSettings) -> None:
    """Merge an adapter, and say what it became."""
    from semcore.models.merge_adapter import merge_adapter

    merged = merge_adapter(
        settings.src, settings.dst, base=settings.base, dtype=settings.dtype, allow_mismatch=settings.allowed
    ).model
    size = sum(weight.numel() for weight in merged.parameters())
    sys.stdout.write(f"{settings.dst}: {size:,} weights, adapter merged; use it as any checkpoint\n")
