"""Whether the variants stand in the paper's order: computed, not judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from semcore.evaluation.statistics import bootstrap_interval
from semcore.study.outcomes import Found


def order_of_parts(
    paper: Mapping[str, float], found: Mapping[str, Found], direction: str, metric: str
) -> dict[str, Any]:
    """Compare an order of variants with the paper's, pair by pair.

    Args:
        paper: variant -> the paper's score.
        found: variant -> what it found here.
        direction: "t2i" or "i2t".
        metric: "R@1", "R@5", ...

    Returns:
        "paper" and "ours", the names best first; "kendall_tau"; "num_pairs"; "num_alike", the pairs
        that stand as in the paper; "reversed", those
        (better in the paper, worse there) that stand the other way here; "reversed_beyond_chance", those
        whose 95 % interval leaves zero out; "agrees", whether all pairs stand alike.
    """
    means = {name: float(found[name].values(direction, metric).mean()) for name in paper}
    pairs = [(a, b) if paper[a] > paper[b] else (b, a) for a, b in combinations(paper, 2)]
    turned = [(better, worse) for better, worse in pairs if means[better] < means[worse]]
    sure = [(a, b) for a, b in turned if is_sure(found[a], found[b], direction, metric)]
    agreeing = sum(means[better] > means[worse] for better, worse in pairs)
    return {
        "direction": direction,
        "metric": metric,
        "paper": sorted(paper, key=lambda name: -paper[name]),
        "ours": sorted(paper, key=lambda name: -means[name]),
        "kendall_tau": round((agreeing - len(turned)) / len(pairs), 3),
        "num_pairs": len(pairs),
        "num_alike": agreeing,
        "reversed": turned,
        "reversed_beyond_chance": sure,
        "agrees": agreeing == len(pairs),
    }


def is_sure(first: Found, second: Found, direction: str, metric: str) -> bool:
    """Tell whether the 95 % interval of the difference of two variants leaves zero out."""
    difference = second.values(direction, metric) - first.values(direction, metric)
    low, high = bootstrap_interval(difference, groups=first.groups(direction))
    return low > 0 or high < 0


def order_of_beams(found: Mapping[int, Found], direction: str, metric: str) -> dict[str, Any]:
    """Tell whether wider beams find more (paper, Table 5: they do, at every step).

    Returns:
        "widths" and "means"; "monotone", whether no step falls; "falls_beyond_chance", the steps down whose
        95 % interval leaves zero out; "gain" from the narrowest to the widest, "gain_after_20" from 20 on.
    """
    widths = sorted(found)
    means = [float(found[width].values(direction, metric).mean()) for width in widths]
    falls = [step for step, a, b in zip(_steps(widths), means, means[1:], strict=False) if b < a]
    after = [mean for width, mean in zip(widths, means, strict=True) if width >= 20]
    return {
        "direction": direction,
        "metric": metric,
        "widths": widths,
        "means": [round(mean, 2) for mean in means],
        "monotone": not falls,
        "falls_beyond_chance": [(a, b) for a, b in falls if is_sure(found[a], found[b], direction, metric)],
        "gain": round(means[-1] - means[0], 2),
        "gain_after_20": round(after[-1] - after[0], 2) if after else 0.0,
    }


def order_of_grid(
    found: Mapping[tuple[int, int], Found], full: tuple[int, int], direction: str, metric: str
) -> dict[str, Any]:
    """Find the best point of clusters x keywords (paper, Figure 3: the full system's).

    Section 4.4.1 adds that results are stable over cluster sizes except with the fewest keywords.

    Args:
        found: (clusters, keywords) -> what was found.
        full: the full system's point.
        direction: "t2i" or "i2t".
        metric: "R@1", "R@5", ...

    Returns:
        "means", "clusters x keywords" -> score; "best", and "num_best" that are as good; "full";
        "full_is_best"; "best_beyond_chance", whether the 95 % interval of their difference leaves zero out;
        "spread", keywords -> the range over the cluster sizes; "fewest_keywords_vary_most", None where
        there is nothing to compare.
    """
    means = {point: float(found[point].values(direction, metric).mean()) for point in found}
    keywords = sorted({point[1] for point in found})
    best = max(means, key=lambda point: means[point])
    rows = {k: [mean for point, mean in means.items() if point[1] == k] for k in keywords}
    spread = {k: float(np.ptp(row)) for k, row in rows.items() if len(row) > 1}
    return {
        "direction": direction,
        "metric": metric,
        "means": {f"{c} x {k}": round(mean, 2) for (c, k), mean in means.items()},
        "best": best,
        "num_best": sum(mean == means[best] for mean in means.values()),
        "full": full,
        "full_is_best": best == full,
        "best_beyond_chance": best != full and is_sure(found[full], found[best], direction, metric),
        "spread": {str(k): round(value, 2) for k, value in spread.items()},
        "fewest_keywords_vary_most": _first_is_largest(list(spread.values())),
    }


def _first_is_largest(values: Sequence[float]) -> bool | None:
    return values[0] > max(values[1:]) if len(values) > 1 else None


def _steps(widths: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(widths))
