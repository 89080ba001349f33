"""Settings that several commands share: the lineage of models."""

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
    """Settings of every command that loads a model."""

    base: Path | None = None
    """Where the checkpoint that a model was made from is now, should it have moved."""
    allow_mismatch: str = ""
    """Go on although these are not what a model was made with, "prompts,identifiers" say; the report will say so."""

    @property
    def allowed(self) -> list[str]:
        """Return the kinds of mismatch that are allowed; `semcore.models.lineage` defines them."""
        return [name.strip() for name in self.allow_mismatch.strip("[] ").split(",") if name.strip()]
