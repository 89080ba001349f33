"""Quality of a set of identifiers, from its rows alone: collisions, keywords, clusters, lengths, entropy.

Evaluation indexes one split at a time, so every figure is given for each split and for all items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import log
from statistics import median
from typing import Any

from semcore.data.dataset import SPLITS
from semcore.data.identifier_files import NO_CLUSTER, IdentifierRow, units_of
from semcore.identifiers.quality_of_many import measure_many, percent
from semcore.runtime.long_lists import are_many, chosen

ALL = "all"


def measure_quality(rows: Sequence[IdentifierRow], num_clusters: int) -> dict[str, dict[str, Any]]:
    """Return the figures of `measure_items` for all items and for each split that has any.

    Args:
        rows: one direction's identifiers.
        num_clusters: how many clusters there are, empty ones included.

    Returns:
        {"all": {...}, "train": {...}, ...}.
    """
    figures = {ALL: measure_items(rows, num_clusters)} if rows else {}
    for split in SPLITS:
        own = _of_split(rows, split)
        if own:
            figures[split] = measure_items(own, num_clusters)
    return figures


def measure_items(rows: Sequence[IdentifierRow], num_clusters: int) -> dict[str, Any]:
    """Return the figures of one index over these items.

    Args:
        rows: the items, at least one.
        num_clusters: how many clusters there are, empty ones included.

    Returns:
        num_items; num_identifiers, the distinct ones; num_shared_items, those whose identifier
        another item has too, and shared_percent; largest_group, the most items with one identifier;
        num_without_keyword; num_keywords, the distinct ones; num_items_by_length, keywords ->
        items; alone_percent, j -> the share of items that no other item shares the cluster and the
        first j keywords with; cluster_size, over the clusters that hold an item, and how many hold
        none (all 0 for identifiers without a global id); bigram_entropy, see `bigram_entropy`.
        Where identifiers are codes, these stand for keywords.
    """
    if are_many(rows):
        return measure_many(rows, num_clusters)
    groups = Counter(row["identifier"] for row in rows)
    num_shared = sum(size for size in groups.values() if size > 1)
    lengths = Counter(len(units_of(row)) for row in rows)
    sizes = sorted(Counter(row["global_id"] for row in rows if row["global_id"] != NO_CLUSTER).values())
    return {
        "num_items": len(rows),
        "num_identifiers": len(groups),
        "num_shared_items": num_shared,
        "shared_percent": percent(num_shared, len(rows)),
        "largest_group": max(groups.values()),
        "num_without_keyword": lengths[0],
        "num_keywords": len({unit for row in rows for unit in units_of(row)}),
        "num_items_by_length": {str(length): lengths[length] for length in sorted(lengths)},
        "alone_percent": {str(j): percent(_num_alone(rows, j), len(rows)) for j in range(max(lengths) + 1)},
        "cluster_size": {
            "smallest": min(sizes, default=0),
            "median": float(median(sizes or [0])),
            "largest": max(sizes, default=0),
            "num_empty": num_clusters - len(sizes),
        },
        "bigram_entropy": round(bigram_entropy(rows), 2),
    }


def _of_split(rows: Sequence[IdentifierRow], split: str) -> Sequence[IdentifierRow]:
    return chosen(rows, lambda row: row["split"] == split)


def bigram_entropy(rows: Sequence[IdentifierRow]) -> float:
    """Return what an identifier's words cost a model that knows no more than the word before each.

    The mean over items of -sum log p(word | word before it), from the first behind the cluster to the end, in nats;
    p are the frequencies in these rows. The same words in a steady order cost less, which leaves more of a model's
    probability to what the query says. Few rows cost too little: compare orders of the same items only.

    Args:
        rows: the items, at least one.
    """
    steps = Counter(step for row in rows for step in pairwise((row["global_id"], *units_of(row), None)))
    before: Counter[str | int | None] = Counter()
    for (word, _), count in steps.items():
        before[word] += count
    return -sum(count * log(count / before[word]) for (word, _), count in steps.items()) / len(rows)


def items_without_keyword(rows: Sequence[IdentifierRow]) -> list[str]:
    """Return the ids of the items whose identifier is only the cluster token, or empty."""
    return [row["item_id"] for row in rows if not units_of(row)]


def _num_alone(rows: Sequence[IdentifierRow], num_keywords: int) -> int:
    """Count the items whose cluster and first keywords no other item has."""
    nodes = Counter((row["global_id"], " ".join(units_of(row)[:num_keywords])) for row in rows)
    return sum(size == 1 for size in nodes.values())
