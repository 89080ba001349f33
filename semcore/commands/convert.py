"""Convert a checkpoint in the original InternVL2.5 or InternVL3 layout to a native one.

    semcore convert-checkpoint InternVL2_5-1B InternVL2_5-1B-native

The code that comes with the original is never run.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class ConvertSettings:
    """What `semcore convert-checkpoint` takes."""

    src: Path
    """The original checkpoint's folder; it is only read."""
    dst: Path
    """The native folder to make."""


def main(settings: ConvertSettings) -> None:
    """Convert a checkpoint, and say what it became."""
    from semcore.models.conversion import convert_checkpoint

    config: Any = convert_checkpoint(settings.src, settings.dst, progress=True)
    text_model = config.text_config.model_type
    sys.stdout.write(f"{settings.dst}: InternVL with a {text_model} text model; use it with --model {settings.dst}\n")
