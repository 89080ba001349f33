"""Detection of queries without an answer: a threshold on the confidence of the best hit, and how well it tells.

The threshold is chosen on val for a wanted precision: of the queries that are answered, so many have a right first hit.
Queries without an answer are real ones, searched in a corpus from which their items were taken
(`semcore.evaluation.held_out_items`). How common they are is the user's matter; here they count as half of all.

Shapes: A queries with an answer, U without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

UNANSWERABLE_SHARE = 0.5  # ours: as many queries without an answer as with one, whatever the numbers measured
FEWEST_ANSWERED = 10  # ours: a precision of fewer queries says little


@dataclass(frozen=True)
class BestHits:
    """The confidence of each query's best hit.

    Attributes:
        with_answer: of queries whose items are in the corpus (A,).
        right: whether that hit was right (A,).
        without_answer: of queries whose items are not (U,).
    """

    with_answer: Sequence[float]
    right: Sequence[bool]
    without_answer: Sequence[float]


def choose_threshold(hits: BestHits, precision: float) -> float | None:
    """Return the least confidence that is answered, so that the wanted share of answers is right.

    Among the thresholds that reach the precision it is the one that answers most. None where none does with
    `FEWEST_ANSWERED` queries or more, or where one of both kinds of query is missing.

    Args:
        hits: of val.
        precision: wanted share of right answers, 0 to 1.
    """
    if not len(hits.with_answer) or not len(hits.without_answer):
        return None
    given, right, without = _arrays(hits)
    for threshold in np.unique(given):
        answered = given >= threshold
        if answered.sum() < FEWEST_ANSWERED:
            return None
        if _precision(answered, right, without >= threshold) >= precision:
            return float(threshold)
    return None


def measure_threshold(hits: BestHits, threshold: float | None) -> dict[str, Any]:
    """Return how well a threshold tells queries with an answer from those without, percentages where not said.

    Args:
        hits: of the measured split.
        threshold: from `choose_threshold`; None answers every query.

    Returns:
        "num_with_answer", "num_without_answer"; "precision", of the answers that are right, where queries without an
        answer are half of all (None where nothing is answered); "coverage", of the queries with an answer that are
        answered; "rejected", of the others that are not; "auroc", 0 to 1, the probability that a right first hit is
        more confident than one of a query without an answer (None where one of them is missing).
    """
    given, right, without = _arrays(hits)
    least = -np.inf if threshold is None else threshold
    return {
        "num_with_answer": len(given),
        "num_without_answer": len(without),
        "precision": _percent(_precision(given >= least, right, without >= least)),
        "coverage": _percent(_mean(given >= least)),
        "rejected": _percent(_mean(without < least)),
        "auroc": _auroc(given[right], without),
    }


def _arrays(hits: BestHits) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    return (
        np.asarray(hits.with_answer, dtype=np.float64),
        np.asarray(hits.right, dtype=bool),
        np.asarray(hits.without_answer, dtype=np.float64),
    )


def _precision(answered: NDArray[np.bool_], right: NDArray[np.bool_], wrongly: NDArray[np.bool_]) -> float:
    """Return the share of answers that are right; not a number where nothing is answered."""
    if not len(wrongly) or not len(answered):
        return float("nan") if not answered.any() else float((answered & right).sum() / answered.sum())
    share = 1 - UNANSWERABLE_SHARE
    good, all_with = share * (answered & right).mean(), share * answered.mean()
    every = all_with + UNANSWERABLE_SHARE * wrongly.mean()
    return float(good / every) if every else float("nan")


def _auroc(right: NDArray[np.float64], without: NDArray[np.float64]) -> float | None:
    """Return Mann and Whitney's U as a share of all pairs, ties half; None where there is no pair."""
    if not len(right) or not len(without):
        return None
    ranks = rankdata(np.concatenate([right, without]))[: len(right)]
    return float((ranks.sum() - len(right) * (len(right) + 1) / 2) / (len(right) * len(without)))


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else 100 * share
