"""What the settings of several commands have in common: lineage, ranges, a hash of what a result depends on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


def option(name: str) -> str:
    """Return the option of a setting as it is typed, from its dotted name.

    >>> option("held_out.image_fraction")
    '--held-out.image-fraction'
    """
    return "--" + name.replace("_", "-")


@dataclass(kw_only=True)
class LineageSettings:
    """What every command takes that loads a model."""

    base: Path | None = None
    """Where the checkpoint that a model was made from is now, should it have moved."""
    allow_mismatch: str = ""
    """Go on although these are not what a model was made with, "prompts,identifiers" say; the report will say so."""

    @property
    def allowed(self) -> list[str]:
        """Return the kinds of mismatch that are allowed; `semcore.models.lineage` knows which there are."""
        return [name.strip() for name in self.allow_mismatch.strip("[] ").split(",") if name.strip()]
