"""Calibration: the probability that a candidate is relevant, from its fused score among the query's candidates.

A query may have one relevant candidate, several (the sentences of an image) or none, so the candidates'
probabilities need not sum to one: each candidate is a separate case. The model is a logistic regression, as in
Platt (1999): his smoothed targets and a ridge prevent certainty from few queries. Features that differ between the
candidates of a query have non-negative coefficients, except that the first candidate may be less probable than its
score alone implies, though never less than the second: the probabilities never contradict the order.

Shapes: K candidates of a query, N of all queries, F = 6 features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

Scores = NDArray[np.float64]

RIDGE = 1.0  # one unit of log-likelihood per coefficient of one standard deviation: little beside hundreds of cases
BOUNDS = ((0.0, None), (0.0, None), *(((None, None),) * 5))


@dataclass(frozen=True)
class Calibration:
    """A probability from scores: logit p is the sum of the features below, weighted, and the intercept.

    A candidate's share is its softmax probability over the query's scores. The first three features differ between the
    candidates of a query; the others belong to the query, and tell whether any candidate is relevant.

    Attributes:
        share: weight of the logarithm of the share, 0 or more.
        odds: weight of the log-odds of the share, 0 or more; they are 0 for a single candidate.
        first: added to the best candidate, which is first by chance where none is relevant.
        best: weight of the best score.
        spread: weight of the distance of the best score from the mean.
        deviation: weight of the standard deviation of the scores.
        intercept: the logit of the base rate, without information from scores.
    """

    share: float
    odds: float
    first: float
    best: float
    spread: float
    deviation: float
    intercept: float

    def probabilities(self, fused: Sequence[float] | Scores) -> Scores:
        """Return each candidate's probability of being relevant, (K,), 0 to 1."""
        scores = np.asarray(fused, dtype=np.float64)
        weights = np.array([self.share, self.odds, self.first, self.best, self.spread, self.deviation])
        own = expit(_features(scores) @ weights + self.intercept)
        upwards = np.argsort(scores, kind="stable")
        own[upwards] = np.maximum.accumulate(own[upwards])
        return own


def fit_calibration(fused: Sequence[Scores], right: Sequence[Sequence[bool]]) -> Calibration | None:
    """Fit on queries whose relevant candidates are known; None where there is no candidate.

    Args:
        fused: the fused scores (K,) of each query's candidates.
        right: which of them are relevant; queries without a relevant candidate count too.
    """
    queries = [(_features(own), truth) for own, truth in zip(fused, right, strict=True) if len(own)]
    if not queries:
        return None
    features = np.concatenate([own for own, _ in queries])
    truth = np.concatenate([np.asarray(own, dtype=bool) for _, own in queries])
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale < 1e-9] = 1.0  # a constant feature: the ridge sets its coefficient to 0
    cases = np.column_stack([(features - centre) / scale, np.ones(len(features))])
    start = np.zeros(cases.shape[1])
    fitted = minimize(_loss, start, args=(cases, _targets(truth)), jac=True, method="L-BFGS-B", bounds=BOUNDS).x
    weights = fitted[:-1] / scale
    intercept = fitted[-1] - weights @ centre
    return Calibration(*np.append(weights, intercept).tolist())


def _features(scores: Scores) -> Scores:
    """Return (K, F): log share, its log-odds, whether it is first, and of all scores the best, spread and deviation."""
    count = len(scores)
    if count == 0:
        return np.empty((0, len(BOUNDS) - 1))
    best = scores.max()
    share = scores - best - np.log(np.exp(scores - best).sum())
    own = best, best - scores.mean(), scores.std()
    return np.column_stack([share, _log_odds(scores), scores == best, *(np.full(count, value) for value in own)])


def _log_odds(scores: Scores) -> Scores:
    """Return each score minus the log-sum-exp of the others, (K,); 0 for a single one."""
    if len(scores) == 1:
        return np.zeros(1)
    others = np.where(np.eye(len(scores), dtype=bool), -np.inf, scores)
    best = others.max(axis=1)
    return scores - best - np.log(np.exp(others - best[:, None]).sum(axis=1))


def _targets(truth: NDArray[np.bool_]) -> Scores:
    """Return Platt's smoothed targets: as if one more case of each class had been observed."""
    num_right = int(truth.sum())
    return np.where(truth, (num_right + 1) / (num_right + 2), 1 / (len(truth) - num_right + 2))


def _loss(weights: Scores, cases: Scores, targets: Scores) -> tuple[float, Scores]:
    """Return the negative log-likelihood with its ridge, and the gradient (F + 1,)."""
    logits = cases @ weights
    penalised = np.append(weights[:-1], 0.0)
    value = np.sum(np.logaddexp(0.0, logits) - targets * logits) + RIDGE / 2 * penalised @ penalised
    return float(value), cases.T @ (expit(logits) - targets) + RIDGE * penalised
