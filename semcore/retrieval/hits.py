"""Hits: items as the generator ranks them. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple


class GeneratedHit(NamedTuple):
    """An item as the generator ranked it: its id, the identifier that led to it and the path's log-probability."""

    item_id: str
    identifier: str
    score: float
