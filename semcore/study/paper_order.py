"""Order of variants compared with the paper's, and trends along a table's numeric axis, from paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from semcore.evaluation.statistics import bootstrap_interval
from semcore.study.scores import Found


def order_of_variants(
    paper: Mapping[str, float], found: Mapping[str, Found], direction: str, metric: str
) -> dict[str, Any]:
    """Compare an order of variants with the paper's, pair by pair.

    Args:
        paper: variant -> the paper's score; two at least.
        found: variant -> its ranks here.
        direction: that is compared.
        metric: "R@1", "R@5", ...

    Returns:
        "paper" and "ours", the names best first; "kendall_tau"; "num_pairs"; "num_alike", the pairs
        in the paper's order; "reversed", the pairs (better in the paper, worse there) in the opposite
        order here; "reversed_beyond_chance", those whose 95 % interval excludes zero; "agrees",
        whether all pairs are in the paper's order.
    """
    means = {name: float(found[name].values(direction, metric).mean()) for name in paper}
    pairs = [(a, b) if paper[a] > paper[b] else (b, a) for a, b in combinations(paper, 2)]
    reversed_pairs = [(better, worse) for better, worse in pairs if means[better] < means[worse]]
    sure = [(a, b) for a, b in reversed_pairs if is_sure(found[a], found[b], direction, metric)]
    agreeing = sum(means[better] > means[worse] for better, worse in pairs)
    return {
        "direction": direction,
        "metric": metric,
        "paper": sorted(paper, key=lambda name: -paper[name]),
        "ours": sorted(paper, key=lambda name: -means[name]),
        "kendall_tau": round((agreeing - len(reversed_pairs)) / len(pairs), 3),
        "num_pairs": len(pairs),
        "num_alike": agreeing,
        "reversed": reversed_pairs,
        "reversed_beyond_chance": sure,
        "agrees": agreeing == len(pairs),
    }


def is_sure(first: Found, second: Found, direction: str, metric: str) -> bool:
    """Return whether the 95 % interval of the difference of two variants excludes zero."""
    difference = second.values(direction, metric) - first.values(direction, metric)
    low, high = bootstrap_interval(difference, groups=first.groups(direction))
    return low > 0 or high < 0


def order_along_axis(found: Mapping[float, Found], direction: str, metric: str) -> dict[str, Any]:
    """Return whether the score rises with a setting (as with the beam width in the paper's Table 5).

    Args:
        found: value on the axis -> the ranks with it.
        direction: that is compared.
        metric: "R@1", "R@5", ...

    Returns:
        "values" and "means"; "monotone", whether no step falls; "falls_beyond_chance", the falling steps whose
        95 % interval excludes zero; "gain" from the smallest to the largest value.
    """
    values = sorted(found)
    means = [float(found[value].values(direction, metric).mean()) for value in values]
    falls = [step for step, (a, b) in zip(pairwise(values), pairwise(means), strict=True) if b < a]
    return {
        "direction": direction,
        "metric": metric,
        "values": values,
        "means": [round(mean, 2) for mean in means],
        "monotone": not falls,
        "falls_beyond_chance": [(a, b) for a, b in falls if is_sure(found[a], found[b], direction, metric)],
        "gain": round(means[-1] - means[0], 2),
    }


def best_of_grid(
    found: Mapping[tuple[float, float], Found], reference: tuple[float, float] | None, direction: str, metric: str
) -> dict[str, Any]:
    """Find the best point of a grid of two settings (the paper's Figure 3: the full system's).

    Args:
        found: (value on the axis, value of the line) -> the ranks.
        reference: the reference's point, None where it is not in the grid.
        direction: that is compared.
        metric: "R@1", "R@5", ...

    Returns:
        "means", "x by y" -> score; "best", and "num_best" that are as good; "reference"; "reference_is_best";
        "best_beyond_chance", whether the 95 % interval of their difference excludes zero; "spread", line -> the
        range over the axis, where there is more than one point.
    """
    means = {point: float(found[point].values(direction, metric).mean()) for point in found}
    best = max(means, key=lambda point: means[point])
    lines = {y: [mean for point, mean in means.items() if point[1] == y] for y in sorted({y for _, y in found})}
    against = found.get(reference) if reference is not None else None
    return {
        "direction": direction,
        "metric": metric,
        "means": {f"{x} by {y}": round(mean, 2) for (x, y), mean in means.items()},
        "best": best,
        "num_best": sum(mean == means[best] for mean in means.values()),
        "reference": reference,
        "reference_is_best": best == reference,
        "best_beyond_chance": against is not None
        and best != reference
        and is_sure(against, found[best], direction, metric),
        "spread": {str(y): round(float(np.ptp(row)), 2) for y, row in lines.items() if len(row) > 1},
    }
