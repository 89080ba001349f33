"""Ablations that need no training (paper, section 4.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby

from semcore.retrieval.hits import GeneratedHit


def without_verification(hits: Sequence[GeneratedHit]) -> list[GeneratedHit]:
    """Order the items of one identifier by an arbitrary unique suffix, as a table of unique identifiers would.

    The suffix is a hash of the item's id, and so independent of queries, contents and files.
    """
    shuffled: list[GeneratedHit] = []
    for _, equals in groupby(hits, key=lambda hit: hit.identifier):
        shuffled += sorted(equals, key=lambda hit: hashlib.sha256(hit.item_id.encode()).hexdigest())
    return shuffled
