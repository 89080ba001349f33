"""Identifiers whose words are replaced by a number (paper, section 4.3, "w/o SID").

The row of Table 3 "replaces the keywords within structured natural language identifiers with anonymous
unique numbers": the cluster stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from semcore.data.identifier_files import IdentifierRow, make_row
from semcore.identifiers.structured import StructuredIdentifiers


def with_numbers(identifiers: StructuredIdentifiers, seed: int) -> StructuredIdentifiers:
    """Replace every item's keywords by a number that no other item of its direction has.

    The numbers are drawn at random, so that they tell nothing of an item, not even its place in the
    dataset; all have as many digits, so that none is more probable for being shorter.

    Args:
        identifiers: whose clusters stay.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    return replace(identifiers, t2i=_numbered(identifiers.t2i, rng), i2t=_numbered(identifiers.i2t, rng))


def _numbered(rows: Sequence[IdentifierRow], rng: np.random.Generator) -> list[IdentifierRow]:
    width = len(str(len(rows) - 1))
    numbers = rng.permutation(len(rows)).tolist()
    return [
        make_row(row["item_id"], row["split"], row["global_id"], [f"{number:0{width}d}"])
        for row, number in zip(rows, numbers, strict=True)
    ]
