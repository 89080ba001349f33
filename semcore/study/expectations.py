"""Orders that somebody expects, and the best of several variants, each with a paired interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semcore.evaluation.statistics import paired_difference
from semcore.study.scores import Found
from semcore.study.tables import Expectation


def verdict_of(expectation: Expectation, found: Mapping[str, Found], direction: str) -> dict[str, Any]:
    """Return whether two variants stand in the order that is expected, in one direction.

    Returns:
        "better", "worse", "metric", "source", "direction"; "difference", "low", "high", points of the better less the
        worse with a 95 % interval of the paired bootstrap; "verdict": "as expected" or "reversed beyond chance", where
        the interval excludes zero, else "within chance".
    """
    difference = _difference(expectation.worse, expectation.better, found, direction, expectation.metric)
    verdict = "within chance"
    if difference["low"] > 0:
        verdict = "as expected"
    elif difference["high"] < 0:
        verdict = "reversed beyond chance"
    named = {"better": expectation.better, "worse": expectation.worse, "source": expectation.source}
    return {"direction": direction, "metric": expectation.metric, **named, **difference, "verdict": verdict}


def best_variant(found: Mapping[str, Found], against: str, direction: str, metric: str) -> dict[str, Any]:
    """Return the variant with the highest score in one direction, and by how much it is above another.

    Returns:
        "direction", "metric", "best", "mean" (its score), "against", and "difference", "low", "high" in points.
    """
    means = {name: float(own.values(direction, metric).mean()) for name, own in found.items()}
    best = max(means, key=lambda name: means[name])
    difference = _difference(against, best, found, direction, metric)
    return {
        "direction": direction,
        "metric": metric,
        "best": best,
        "mean": round(means[best], 2),
        "against": against,
        **difference,
    }


def _difference(first: str, second: str, found: Mapping[str, Found], direction: str, metric: str) -> dict[str, float]:
    values = [found[name].values(direction, metric) for name in (first, second)]
    difference = paired_difference(*values, groups=found[first].groups(direction))
    return {
        "difference": round(difference.mean, 2),
        "low": round(difference.low, 2),
        "high": round(difference.high, 2),
    }
