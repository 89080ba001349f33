"""What the settings of several commands have in common: lineage, ranges, a hash of what a result depends on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semcore.runtime.errors import UserError
from semcore.runtime.files import plain_data


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


def require_minimum(least: float, settings: Any, *names: str) -> None:
    """Refuse settings below `least`; None is allowed, where the type allows it.

    Raises:
        UserError: names the flag and what was found.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be {least} or more, found {value}")


def hash_of(*parts: Any) -> str:
    """Return a short hash of plain data, equal for equal data."""
    return hashlib.sha256(json.dumps(plain_data(list(parts)), sort_keys=True).encode()).hexdigest()[:16]
