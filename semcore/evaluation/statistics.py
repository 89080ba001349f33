"""Bootstrap intervals of a mean, and paired randomisation tests between two runs; both are SciPy's.

The sentences of one image are not independent: an unusual image makes all five of its queries hard. Both functions
therefore take `groups`; queries of one group are drawn, or swapped between the runs, together.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, permutation_test

Values = NDArray[np.float64]

_MOST_NUMBERS = 2**19  # of a matrix (draws, groups): a few megabytes


class Interval(NamedTuple):
    """The lower and upper end of a confidence interval, in the unit of the values."""

    low: float
    high: float


class PairedTest(NamedTuple):
    """The mean difference (second minus first, in the unit of the values) and its two-sided p-value."""

    difference: float
    p_value: float


def hits(ranks: Iterable[int | None], cutoff: int) -> Values:
    """Convert ranks of first relevant items to 100 (among the first `cutoff`) or 0, (queries,); the mean is R@cutoff.

    >>> hits([1, 7, None], cutoff=5).tolist()
    [100.0, 0.0, 0.0]
    """
    return np.array([100.0 if rank is not None and rank <= cutoff else 0.0 for rank in ranks], dtype=np.float64)


def bootstrap_interval(
    values: Values,
    *,
    groups: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a mean.

    Values that are all equal give an interval of zero width: resampling cannot show unobserved values.

    Args:
        values: (queries,) one value per query.
        groups: (queries,) equal keys are resampled together; None takes every query separately.
        confidence: The fraction of resampled means inside the interval, between 0 and 1.
        num_resamples: Number of resamples.
        seed: Seed of the draws; equal seeds give equal intervals.

    Raises:
        ValueError: There is no value, or `groups` has another length.
    """
    sums, sizes = _grouped(values, groups)
    if len(sums) == 1:  # SciPy refuses to resample one group
        mean = float(np.mean(values))
        return Interval(mean, mean)
    found = bootstrap(
        (sums, sizes),
        lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=confidence,
        n_resamples=num_resamples,
        batch=_draws_per_batch(len(sums)),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def paired_randomisation_test(
    first: Values,
    second: Values,
    *,
    groups: Sequence[Hashable] | None = None,
    num_resamples: int = 10000,
    seed: int = 0,
) -> PairedTest:
    """Test whether two runs differ on the same queries, by swapping their values at random.

    The p-value counts the observed assignment as one of the draws, so it is never zero. Where there are no more
    assignments than draws, all of them are enumerated and it is exact.

    Args:
        first: (queries,) the values of one run.
        second: (queries,) the values of the other, in the same order.
        groups: (queries,) equal keys are swapped together; None takes every query separately.
        num_resamples: Number of assignments that are compared with the observed one.
        seed: Seed of the assignments.

    Raises:
        ValueError: The runs have different lengths, there is no value, or `groups` has another length.
    """
    if len(first) != len(second):
        raise ValueError(f"the runs have {len(first)} and {len(second)} queries")
    sums, _ = _grouped(second - first, groups)
    moved = sums[sums != 0]
    difference = float(np.mean(second - first))
    if len(moved) < 2:  # either sign of one is as large; SciPy takes two or more
        return PairedTest(difference, 1.0)
    found = permutation_test(
        (moved,),
        lambda sums, axis: abs(sums.sum(axis=axis)),
        permutation_type="samples",  # of one sample: random signs
        alternative="greater",
        vectorized=True,
        n_resamples=num_resamples,
        batch=_draws_per_batch(len(moved)),
        rng=np.random.default_rng(seed),
    )
    return PairedTest(difference, float(found.pvalue))


def _draws_per_batch(num_groups: int) -> int:
    return max(1, _MOST_NUMBERS // num_groups)


def _grouped(values: Values, groups: Sequence[Hashable] | None) -> tuple[Values, Values]:
    """Return the sum of the values and the number of queries of each group, in order of first appearance."""
    if len(values) == 0:
        raise ValueError("there is no query to resample")
    if groups is None:
        return np.asarray(values, dtype=np.float64), np.ones(len(values))
    if len(groups) != len(values):
        raise ValueError(f"{len(groups)} groups were given for {len(values)} queries")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    sums: Values = np.bincount(index, weights=values).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)
