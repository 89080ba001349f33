"""Identifier schemes of the ablations: numbers for keywords, no global ids (paper, section 4.3).

The row "w/o SID" of Table 3 "replaces the keywords within structured natural language identifiers with
anonymous unique numbers": the cluster stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from semcore.data.identifier_files import NO_CLUSTER, IdentifierRow, make_row
from semcore.identifiers.scheme import Identifiers
from semcore.identifiers.structured import StructuredIdentifiers
from semcore.runtime.long_lists import kept

Made = TypeVar("Made", StructuredIdentifiers, Identifiers)


def with_numbers(identifiers: StructuredIdentifiers, seed: int) -> StructuredIdentifiers:
    """Replace every item's keywords by a number that no other item of its direction has.

    The numbers are drawn at random, so that they tell nothing of an item, not even its place in the
    dataset; all have as many digits, so that none is more probable for being shorter. Nobody mentions
    a number: no mention rates are left.

    Args:
        identifiers: the identifiers, whose clusters stay.
        seed: seed of the draw.
    """
    rng = np.random.default_rng(seed)
    t2i, i2t = (_numbered(rows, rng) for rows in (identifiers.t2i, identifiers.i2t))
    return replace(identifiers, t2i=t2i, i2t=i2t, mention_counts=[], mentions={})


def _numbered(rows: Sequence[IdentifierRow], rng: np.random.Generator) -> Sequence[IdentifierRow]:
    width = len(str(len(rows) - 1))
    numbers = rng.permutation(len(rows)).tolist()
    return kept(
        make_row(row["item_id"], row["split"], row["global_id"], [f"{number:0{width}d}"])
        for row, number in zip(rows, numbers, strict=True)
    )


def without_global_ids(identifiers: Made) -> Made:
    """Leave the clusters out of identifiers, "retaining only lexical ID" (paper, section 4.3, "w/o global ID").

    The lexical ids are not changed: they still lack the words of the clusters that are now left out.
    """
    t2i, i2t = (
        kept(make_row(row["item_id"], row["split"], NO_CLUSTER, row["lexical_id"]) for row in rows)
        for rows in (identifiers.t2i, identifiers.i2t)
    )
    return replace(identifiers, t2i=t2i, i2t=i2t)
