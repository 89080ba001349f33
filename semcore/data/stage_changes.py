"""Differences between a stage's recorded settings and inputs and those of the present command."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (dotted key, old value, new value) of every difference; a missing value is None."""
    flat_old, flat_new = _flat(old), _flat(new)
    pairs = [(key, flat_old.get(key), flat_new.get(key)) for key in {**flat_old, **flat_new}]
    return [(key, before, now) for key, before, now in pairs if before != now]


def setting_changes(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (dotted key, old value, new value) where two entries differ, comparing content where it is known."""
    before, now = _flat(old["settings"]), _flat(new["settings"])
    if "by_content" not in old:
        return changes(before, now)
    others = [(key, before.get(key), now.get(key)) for key, *_ in changes(old["by_content"], new["by_content"])]
    places = {*old["by_content"], *new["by_content"]}
    return others + [change for change in changes(before, now) if change[0] not in places]


def from_the_root(settings: dict[str, Any], keys: Collection[str], prefix: str = "") -> dict[str, Any]:
    """Return settings with absolute folders under these dotted keys, since later stages may start elsewhere."""
    made = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            value = from_the_root(value, keys, f"{prefix}{key}.")
        elif f"{prefix}{key}" in keys and isinstance(value, str) and Path(value).is_dir():
            value = str(Path(value).absolute())
        made[key] = value
    return made


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def shown(value: Any) -> str:
    """Return a value as it is printed in a sentence."""
    return value if isinstance(value, str) else json.dumps(value)
