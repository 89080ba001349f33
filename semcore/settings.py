"""What the settings of several commands have in common: ranges, and a hash of what a result depends on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from semcore.errors import UserError
from semcore.files import plain_data


def at_least(least: float, settings: Any, *names: str) -> None:
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
