"""A conditional logit: how much each of some scores says about which candidates of a query are right.

p(candidate) is the softmax, over its query's candidates, of a weighted sum of scores; the coefficients, 0 or more, make
the right candidates together as probable as can be.

Shapes: queries have K candidates each, K may differ; F scores a candidate, N candidates in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

RIDGE = 1e-3  # keeps the coefficients finite where every query is ranked rightly

Column = Sequence[Sequence[float]]
"""One of the scores: of each query's candidates."""


def fit_conditional_logit(columns: Sequence[Column], right: Sequence[Sequence[bool]]) -> NDArray[np.float64] | None:
    """Return the coefficient of each score (F,), or None where no query has both right and wrong candidates.

    Args:
        columns: the scores.
        right: which candidates are right; any number of them.
    """
    cases = _cases(columns, right)
    if len(cases.starts) == 0:
        return None
    start, bounds = np.ones(len(columns)), [(0.0, None)] * len(columns)
    return minimize(_loss, start, args=(cases,), jac=True, method="L-BFGS-B", bounds=bounds).x


class _Cases(NamedTuple):
    """The queries that teach, flattened."""

    features: NDArray[np.float64]
    """(N, F)."""
    truth: NDArray[np.bool_]
    """Which candidates are right (N,)."""
    starts: NDArray[np.int64]
    """Where each query begins."""


def _cases(columns: Sequence[Column], right: Sequence[Sequence[bool]]) -> _Cases:
    kept = [number for number, row in enumerate(right) if any(row) and not all(row)]
    if not kept:
        return _Cases(np.empty((0, len(columns))), np.empty(0, dtype=bool), np.empty(0, dtype=np.int64))
    flat = [np.concatenate([np.asarray(scores[number], dtype=np.float64) for number in kept]) for scores in columns]
    truth = np.concatenate([np.asarray(right[number], dtype=bool) for number in kept])
    starts = np.concatenate([[0], np.cumsum([len(right[number]) for number in kept])[:-1]]).astype(np.int64)
    return _Cases(np.stack(flat, axis=1), truth, starts)


def _loss(weights: NDArray[np.float64], cases: _Cases) -> tuple[float, NDArray[np.float64]]:
    """Return the mean negative log-probability of the right candidates with a ridge, and the gradient (F,)."""
    features, truth, starts = cases
    lengths = np.diff(np.append(starts, len(features)))
    scores = features @ weights
    scores = scores - np.repeat(np.maximum.reduceat(scores, starts), lengths)
    shares = np.exp(scores)
    among_all = shares / np.repeat(np.add.reduceat(shares, starts), lengths)
    hits = np.maximum(np.add.reduceat(among_all * truth, starts), 1e-300)
    among_right = among_all * truth / np.repeat(hits, lengths)
    gradient = features.T @ (among_all - among_right) / len(starts) + 2 * RIDGE * weights
    return float(-np.log(hits).mean() + RIDGE * weights @ weights), gradient
