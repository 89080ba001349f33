"""Detection of queries without an answer: a threshold on a quantity of each query, and how well the quantity tells.

The threshold is the highest that refuses no more than a chosen share of val's queries with an answer; what it catches
of those without is then measured. So it depends neither on how common such queries are nor on how often the first hit
is right. Queries without an answer are real ones, searched in a corpus from which their items were taken
(`semcore.evaluation.held_out_items`).

Shapes: A queries with an answer, U without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

UNANSWERABLE_SHARE = 0.5  # ours: in the precision as many queries without an answer as with one, whatever their numbers
FEWEST_QUERIES = 10  # ours: a quantile of fewer queries says little


@dataclass(frozen=True)
class QueryValues:
    """One quantity of each query; the lower, the likelier that it has no answer.

    Attributes:
        with_answer: of queries whose items are in the corpus (A,).
        right: whether their first hit was right (A,).
        without_answer: of queries whose items are not (U,).
    """

    with_answer: Sequence[float]
    right: Sequence[bool]
    without_answer: Sequence[float]


def choose_threshold(values: QueryValues, refused: float) -> float | None:
    """Return the highest threshold that has no more than a share of the queries with an answer below it.

    None with fewer than `FEWEST_QUERIES` of them or without a query of the other kind, and where it would refuse as
    great a share of those with an answer as of those without.

    Args:
        values: of val.
        refused: the share of the queries with an answer that may be below, from 0 to below 1.
    """
    given, _, without = _arrays(values)
    if len(given) < FEWEST_QUERIES or not len(without):
        return None
    most = min(int(refused * len(given) + 1e-9), len(given) - 1)  # 0.29 * 100 is 28.999999999999996
    threshold = float(np.sort(given)[most])
    return threshold if (without < threshold).mean() > (given < threshold).mean() else None


def measure_threshold(values: QueryValues, threshold: float | None) -> dict[str, Any]:
    """Return what a threshold does to queries with an answer and without, percentages where not said.

    Args:
        values: of the measured split.
        threshold: from `choose_threshold`; None answers every query.

    Returns:
        "num_with_answer", "num_without_answer"; "refused", of the queries with an answer, wrongly; "caught", of those
        without one; "precision", of the answers that are right, where queries without an answer are half of all (None
        where nothing is answered). A percentage of no query is None.
    """
    given, right, without = _arrays(values)
    least = -np.inf if threshold is None else threshold
    return {
        "num_with_answer": len(given),
        "num_without_answer": len(without),
        "refused": _percent(_mean(given < least)),
        "caught": _percent(_mean(without < least)),
        "precision": _percent(_precision(given >= least, right, without >= least)),
    }


def auroc(values: QueryValues) -> float | None:
    """Return the probability that a query with an answer has more than one without, 0 to 1; None without both.

    It is Mann and Whitney's U as a share of all pairs, ties half.
    """
    given, _, without = _arrays(values)
    if not len(given) or not len(without):
        return None
    ranks = rankdata(np.concatenate([given, without]))[: len(given)]
    return float((ranks.sum() - len(given) * (len(given) + 1) / 2) / (len(given) * len(without)))


def _arrays(values: QueryValues) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    return (
        np.asarray(values.with_answer, dtype=np.float64),
        np.asarray(values.right, dtype=bool),
        np.asarray(values.without_answer, dtype=np.float64),
    )


def _precision(answered: NDArray[np.bool_], right: NDArray[np.bool_], wrongly: NDArray[np.bool_]) -> float:
    """Return the share of answers that are right; not a number where nothing is answered."""
    if not len(wrongly) or not len(answered):
        return float("nan") if not answered.any() else float((answered & right).sum() / answered.sum())
    share = 1 - UNANSWERABLE_SHARE
    good, all_with = share * (answered & right).mean(), share * answered.mean()
    every = all_with + UNANSWERABLE_SHARE * wrongly.mean()
    return float(good / every) if every else float("nan")


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else 100 * share
