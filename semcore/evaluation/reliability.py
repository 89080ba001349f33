"""Reliability of confidences: the diagram, expected calibration error, Brier score, and coverage against risk.

A confidence holds if of the candidates that have p, a share of p is relevant. Confidences are probabilities, 0 to 1;
coverage and risk are percentages.

Shapes: N cases, each a confidence and whether it was right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 10  # Guo et al. (2017) have 15; ours: some hundreds of queries leave too few in each of more
COVERAGES = tuple(range(5, 101, 5))
"""Percent of the queries that are answered, where the risk is told."""


def reliability(confidences: Sequence[float], right: Sequence[bool], num_bins: int = NUM_BINS) -> dict[str, Any]:
    """Compare confidences with what was right.

    Args:
        confidences: from 0 to 1.
        right: whether each was right.
        num_bins: bins of equal width.

    Returns:
        "num_cases"; "ece", the mean over the cases of the distance between their bin's mean confidence and its share of
        right ones (Naeini et al., 2015), 0 to 1; "brier", the mean squared distance of a confidence from 1 for right
        and 0 for wrong (Brier, 1950); "base_rate", the share that was right; "bins", those with a case, each with
        "low", "high", "num_cases", "confidence" (the mean) and "right" (the share). Without a case only "num_cases".
    """
    given, truth = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if len(given) == 0:
        return {"num_cases": 0}
    places = np.minimum((given * num_bins).astype(np.int64), num_bins - 1)
    bins = [_bin(place, num_bins, given[places == place], truth[places == place]) for place in np.unique(places)]
    gaps = [own["num_cases"] * abs(own["confidence"] - own["right"]) for own in bins]
    return {
        "num_cases": len(given),
        "ece": float(sum(gaps) / len(given)),
        "brier": float(np.mean((given - truth) ** 2)),
        "base_rate": float(truth.mean()),
        "bins": bins,
    }


def coverage_risk(confidences: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """Return how many answers are wrong if only the most confident ones are given.

    Args:
        confidences: of each query's best hit.
        right: whether that hit was right.

    Returns:
        "aurc", the mean risk over all coverages in percent (El-Yaniv & Wiener, 2010; Geifman et al., 2019); "points",
        for each of `COVERAGES` "coverage", "risk" (percent of the given answers that are wrong) and "confidence" (the
        least of them). Without a query there is no point, and "aurc" is None. Of equal confidences the share that is
        within a coverage has their mean risk, so that their order does not matter.
    """
    if len(confidences) == 0:
        return {"aurc": None, "points": []}
    given, risks = _risks(np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=bool))
    counts = [max(1, round(coverage * len(given) / 100)) for coverage in COVERAGES]
    points = [
        {"coverage": coverage, "risk": float(100 * risks[count - 1]), "confidence": float(given[count - 1])}
        for coverage, count in zip(COVERAGES, counts, strict=True)
    ]
    return {"aurc": float(100 * risks.mean()), "points": points}


def _bin(place: int, num_bins: int, given: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "low": float(place / num_bins),
        "high": float((place + 1) / num_bins),
        "num_cases": len(given),
        "confidence": float(given.mean()),
        "right": float(truth.mean()),
    }


def _risks(given: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the confidences in descending order and the risk of answering down to each, both (N,)."""
    order = np.argsort(-given, kind="stable")
    given, wrong = given[order], 1.0 - right[order]
    _, groups, sizes = np.unique(-given, return_inverse=True, return_counts=True)
    expected = np.bincount(groups, weights=wrong)[groups] / sizes[groups]
    return given, np.cumsum(expected) / np.arange(1, len(given) + 1)
