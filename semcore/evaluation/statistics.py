"""How sure a recall is: a bootstrap interval, and a paired randomisation test between two runs.

The sentences of one image are no independent draws: an odd image makes all five of its queries hard. Both functions
therefore take `groups`; queries of one group are drawn, or swapped between the runs, together.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_MOST_NUMBERS = 2**19


class Interval(NamedTuple):
    """The lower and upper end of a confidence interval, in the unit of the values."""

    low: float
    high: float


class Difference(NamedTuple):
    """A mean difference and the ends of its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


class PairedTest(NamedTuple):
    """The mean difference (second minus first, in the unit of the values) and its two-sided p-value."""

    difference: float
    p_value: float


def hits(ranks: Iterable[int | None], cutoff: int) -> Values:
    """Turn ranks of first right items into 100 (found among the first `cutoff`) or 0; their mean is R@cutoff.

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

    Values that are all equal give an interval of no width: resampling cannot show what was never seen.

    Args:
        values: (queries,) one value a query.
        groups: (queries,) equal keys are resampled together; None takes every query for itself.
        confidence: The share of resampled means inside the interval, between 0 and 1.
        num_resamples: How often the groups are drawn anew.
        seed: Seeds the draws; equal seeds give equal intervals.

    Raises:
        ValueError: There is no value, or `groups` has another length.
    """
    sums, sizes = _grouped(values, groups)
    rng = np.random.default_rng(seed)
    means = []
    for num_draws in _batches(num_resamples, len(sums)):
        drawn = rng.integers(len(sums), size=(num_draws, len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def paired_difference(
    first: Values, second: Values, *, groups: Sequence[Hashable] | None = None, seed: int = 0
) -> Difference:
    """Return by how much the second run is above the first on the same queries, with its 95 % bootstrap interval.

    Args:
        first: (queries,) the values of one run.
        second: (queries,) the values of the other, in the same order.
        groups: (queries,) equal keys are resampled together; None takes every query for itself.
        seed: Seeds the draws.

    Raises:
        ValueError: The runs have different lengths, there is no value, or `groups` has another length.
    """
    if len(first) != len(second):
        raise ValueError(f"the runs have {len(first)} and {len(second)} queries")
    return Difference(float(np.mean(second - first)), *bootstrap_interval(second - first, groups=groups, seed=seed))


def paired_randomisation_test(
    first: Values,
    second: Values,
    *,
    groups: Sequence[Hashable] | None = None,
    num_resamples: int = 10000,
    seed: int = 0,
) -> PairedTest:
    """Test whether two runs differ on the same queries, by swapping their values at random.

    The p-value counts the observed assignment as one of the draws, so it is never zero.

    Args:
        first: (queries,) the values of one run.
        second: (queries,) the values of the other, in the same order.
        groups: (queries,) equal keys are swapped together; None takes every query for itself.
        num_resamples: How many random assignments are compared with the observed one.
        seed: Seeds the assignments.

    Raises:
        ValueError: The runs have different lengths, there is no value, or `groups` has another length.
    """
    if len(first) != len(second):
        raise ValueError(f"the runs have {len(first)} and {len(second)} queries")
    sums, _ = _grouped(second - first, groups)
    rng = np.random.default_rng(seed)
    moved = sums[sums != 0]
    observed = abs(moved.sum())
    as_large = 0
    for num_draws in _batches(num_resamples, len(moved)):
        signs = 2.0 * rng.integers(2, size=(num_draws, len(moved))) - 1.0
        # Sums of the same numbers in another order may differ in the last bits: that is still "as large".
        as_large += int((abs(signs @ moved) >= observed * (1 - 1e-9)).sum())
    return PairedTest(float(np.mean(second - first)), (1 + as_large) / (1 + num_resamples))


def _batches(num_resamples: int, num_groups: int) -> Iterator[int]:
    """Split the draws so that a matrix of (draws, groups) stays within a few megabytes."""
    most = max(1, _MOST_NUMBERS // max(num_groups, 1))
    for start in range(0, num_resamples, most):
        yield min(most, num_resamples - start)


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
