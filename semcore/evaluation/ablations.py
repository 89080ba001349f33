"""What the parts of the system are worth, without training anything (paper, section 4.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby

from semcore.retrieval.hits import GeneratedHit


def without_verification(hits: Sequence[GeneratedHit]) -> list[GeneratedHit]:
    """Let an arbitrary unique suffix decide between items of one identifier, as an identifier table does.

    The suffix comes from a hash of the item's id: it knows nothing of queries, contents or files.
    """
    shuffled: list[GeneratedHit] = []
    for _, equals in groupby(hits, key=lambda hit: hit.identifier):
        shuffled += sorted(equals, key=lambda hit: hashlib.sha256(hit.item_id.encode()).hexdigest())
    return shuffled
