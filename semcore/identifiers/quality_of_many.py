"""Figures of very many identifiers: those of `semcore.identifiers.quality`, counted by numbers in flat arrays.

Identifiers and their beginnings are counted by 64-bit hashes, of which two among a million are equal once in ten
million times.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from semcore.data.identifier_files import NO_CLUSTER, IdentifierRow, units_of

_CLUSTER = 1 << 30  # numbers of clusters begin here, those of words at 0
_END = (1 << 31) - 1
_SHIFT = 31


def measure_many(rows: Sequence[IdentifierRow], num_clusters: int) -> dict[str, Any]:
    """Return the figures of `semcore.identifiers.quality.measure_items`.

    Args:
        rows: the items, at least one; read once.
        num_clusters: how many clusters there are, empty ones included.
    """
    counts = _Counts()
    for row in rows:
        counts.add(row)
    sharing = _group_sizes(counts.identifiers)
    lengths = Counter(counts.lengths)
    clusters = np.frombuffer(counts.clusters, np.int32)
    sizes = _group_sizes(clusters[clusters != NO_CLUSTER])
    number = len(counts.lengths)
    num_shared = int(sharing[sharing > 1].sum())
    return {
        "num_items": number,
        "num_identifiers": len(sharing),
        "num_shared_items": num_shared,
        "shared_percent": percent(num_shared, number),
        "largest_group": int(sharing.max()),
        "num_without_keyword": lengths[0],
        "num_keywords": len(counts.units),
        "num_items_by_length": {str(length): lengths[length] for length in sorted(lengths)},
        "alone_percent": {
            str(depth): percent(int((_group_sizes(own) == 1).sum()), number)
            for depth, own in enumerate(counts.beginnings)
        },
        "cluster_size": {
            "smallest": int(sizes.min()) if len(sizes) else 0,
            "median": float(np.median(sizes)) if len(sizes) else 0.0,
            "largest": int(sizes.max()) if len(sizes) else 0,
            "num_empty": num_clusters - len(sizes),
        },
        "bigram_entropy": round(_entropy(counts.steps) / number, 2),
    }


def percent(part: int, whole: int) -> float:
    """Return a share in percent with two digits."""
    return round(100 * part / whole, 2)


class _Counts:
    """What is counted of each identifier, as numbers."""

    def __init__(self) -> None:
        self.units: dict[str, int] = {}
        self.identifiers, self.clusters, self.lengths = array("q"), array("i"), array("i")
        self.beginnings = [array("q")]  # by depth: cluster and first words of each identifier
        self.steps = array("q")  # pairs of a word and the word before it

    def add(self, row: IdentifierRow) -> None:
        units, cluster = units_of(row), row["global_id"]
        self.identifiers.append(hash(row["identifier"]))
        self.clusters.append(cluster)
        self.lengths.append(len(units))
        while len(self.beginnings) <= len(units):  # no identifier so far was as long: it ends where it ended
            self.beginnings.append(self.beginnings[-1][:])
        for depth, own in enumerate(self.beginnings):
            own.append(hash((cluster, " ".join(units[:depth]))))
        before = _CLUSTER + 1 + cluster
        for number in (*(self.units.setdefault(unit, len(self.units)) for unit in units), _END):
            self.steps.append(before << _SHIFT | number)
            before = number


def _group_sizes(values: array[int] | np.ndarray) -> np.ndarray:
    """Return how often each distinct value occurs (values,)."""
    return np.unique(np.asarray(values), return_counts=True)[1]


def _entropy(steps: array[int]) -> float:
    """Return -sum log p(word | word before it) over all steps, in nats."""
    pairs, counts = np.unique(np.frombuffer(steps, np.int64), return_counts=True)
    _, starts = np.unique(pairs >> _SHIFT, return_index=True)
    before = np.repeat(np.add.reduceat(counts, starts), np.diff([*starts, len(counts)]))
    return float(-(counts * np.log(counts / before)).sum())
