"""How probable it is that a candidate is right, from its fused score among the query's candidates.

A query may have one right candidate, several (the sentences of an image) or none, so the candidates'
probabilities need not sum to one: each candidate is a case of its own. Fitted are the coefficients of a logistic
regression, as Platt (1999) calibrates a classifier: his smoothed targets and a ridge keep few queries from
claiming certainty. What tells candidates of one query apart has no negative coefficient, so the probability
never contradicts the order.

Shapes: K candidates of a query, N of all queries, F = 4 features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

Scores = NDArray[np.float64]

RIDGE = 1.0  # one unit of log-likelihood for a coefficient of one standard deviation: nothing beside hundreds of cases
BOUNDS = ((0.0, None), (0.0, None), (None, None), (None, None), (None, None))


@dataclass(frozen=True)
class Calibration:
    """logit p = intercept + share * log s + odds * (log s of it - log s of all others) + best * b + spread * d.

    s is a candidate's part of the softmax over the query's scores; b, the best score, and d, how far it is above
    their mean, are the query's own and say whether anything is right at all.

    Attributes:
        share: coefficient of log s, 0 or more.
        odds: coefficient of the log-odds of s, 0 or more; they are 0 for a candidate without a rival.
        best: coefficient of b.
        spread: coefficient of d.
        intercept: the logit of the base rate where scores say nothing.
    """

    share: float
    odds: float
    best: float
    spread: float
    intercept: float

    def probabilities(self, fused: Sequence[float] | Scores) -> Scores:
        """Return how probable it is that each candidate is right, (K,), 0 to 1."""
        weights = np.array([self.share, self.odds, self.best, self.spread])
        return expit(_features(np.asarray(fused, dtype=np.float64)) @ weights + self.intercept)


def fit_calibration(fused: Sequence[Scores], right: Sequence[Sequence[bool]]) -> Calibration | None:
    """Fit on queries whose right candidates are known; None where there is no candidate.

    Args:
        fused: the fused scores of each query's candidates.
        right: which of them are right; queries without a right candidate count too.
    """
    queries = [(_features(own), truth) for own, truth in zip(fused, right, strict=True) if len(own)]
    if not queries:
        return None
    features = np.concatenate([own for own, _ in queries])
    truth = np.concatenate([np.asarray(own, dtype=bool) for _, own in queries])
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale < 1e-9] = 1.0  # the same everywhere: the ridge leaves it out
    cases = np.column_stack([(features - centre) / scale, np.ones(len(features))])
    start = np.zeros(cases.shape[1])
    fitted = minimize(_loss, start, args=(cases, _targets(truth)), jac=True, method="L-BFGS-B", bounds=BOUNDS).x
    weights = fitted[:-1] / scale
    share, odds, best, spread = weights.tolist()
    return Calibration(share, odds, best, spread, float(fitted[-1] - weights @ centre))


def _features(scores: Scores) -> Scores:
    """Return (K, F): log share, log-odds of the share, the best score, its distance from the mean."""
    count = len(scores)
    if count == 0:
        return np.empty((0, len(BOUNDS) - 1))
    others = np.where(np.eye(count, dtype=bool), -np.inf, scores)
    odds = scores - logsumexp(others, axis=1) if count > 1 else np.zeros(1)
    best = np.full(count, scores.max())
    return np.column_stack([scores - logsumexp(scores), odds, best, best - scores.mean()])


def _targets(truth: NDArray[np.bool_]) -> Scores:
    """Return Platt's targets: as if one more case of each kind had been seen."""
    num_right = int(truth.sum())
    return np.where(truth, (num_right + 1) / (num_right + 2), 1 / (len(truth) - num_right + 2))


def _loss(weights: Scores, cases: Scores, targets: Scores) -> tuple[float, Scores]:
    """Return the negative log-likelihood with its ridge, and the gradient (F + 1,)."""
    logits = cases @ weights
    penalised = np.append(weights[:-1], 0.0)
    value = np.sum(np.logaddexp(0.0, logits) - targets * logits) + RIDGE / 2 * penalised @ penalised
    return float(value), cases.T @ (expit(logits) - targets) + RIDGE * penalised
