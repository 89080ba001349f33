"""Hits: items as the generator ranks them. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class GeneratedHit(NamedTuple):
    """An item as the generator ranked it: its id, the identifier that led to it and the path's score."""

    item_id: str
    identifier: str
    score: float


def without_prior(
    hits: Sequence[GeneratedHit], log_priors: Mapping[str, float], weight: float, most: int | None = None
) -> list[GeneratedHit]:
    """Take a share of the identifiers' prior off the scores and put the hits in their new order.

    Items of one identifier have one prior, so they stay together in their order; of other equal scores the one that
    stood before stands before. A weight of 0 changes nothing.

    Args:
        hits: what a search has found, best first.
        log_priors: identifier -> log p(identifier).
        weight: how much of it comes off.
        most: hits to return, all by default.
    """
    corrected = [hit._replace(score=hit.score - weight * log_priors[hit.identifier]) for hit in hits]
    return sorted(corrected, key=lambda hit: -hit.score)[:most]
