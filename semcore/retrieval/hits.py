"""Hits of the generator. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple


class GeneratedHit(NamedTuple):
    """A hit of the generator: the item's id, its identifier, and the identifier's log-probability."""

    item_id: str
    identifier: str
    score: float
