"""Intervals and tests against exact answers where there are some."""

import itertools

import numpy as np
import pytest

from semcore.evaluation.statistics import bootstrap_interval, hits, paired_difference, paired_randomisation_test


def exact_p_value(differences: np.ndarray) -> float:
    """Try every assignment of signs."""
    observed = abs(differences.sum())
    signs = itertools.product((-1, 1), repeat=len(differences))
    totals = [abs((differences * np.array(sign)).sum()) for sign in signs]
    return float(np.mean([total >= observed - 1e-9 for total in totals]))


def test_hits_average_to_recall() -> None:
    assert hits([1, 5, 6, None], cutoff=5).mean() == 50.0


def test_interval_agrees_with_the_normal_approximation() -> None:
    values = hits([1] * 400 + [None] * 600, cutoff=1)
    interval = bootstrap_interval(values, seed=3)
    half = 1.96 * 100 * (0.4 * 0.6 / 1000) ** 0.5
    assert interval == pytest.approx((40 - half, 40 + half), abs=0.5)


def test_equal_seeds_give_equal_intervals_and_others_do_not() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_grouped_sentences_are_no_independent_draws() -> None:
    """Five equal answers an image say no more than one: the interval is that of the images."""
    images = hits([1, None] * 100, cutoff=1)
    sentences = np.repeat(images, 5)
    groups = [f"image{i // 5}" for i in range(len(sentences))]
    assert bootstrap_interval(sentences, groups=groups) == bootstrap_interval(images)
    alone = bootstrap_interval(sentences)
    together = bootstrap_interval(sentences, groups=groups)
    assert together.high - together.low > 1.8 * (alone.high - alone.low)


def test_groups_of_unequal_size_keep_the_mean_of_the_queries() -> None:
    values = hits([1, 1, 1, None], cutoff=1)
    interval = bootstrap_interval(values, groups=["a", "a", "a", "b"])
    assert interval == (0.0, 100.0)


@pytest.mark.parametrize("seed", range(4))
def test_p_value_equals_that_of_all_assignments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=10), rng.normal(0.5, size=10)
    test = paired_randomisation_test(first, second, num_resamples=20000, seed=seed)
    assert test.difference == pytest.approx((second - first).mean())
    assert test.p_value == pytest.approx(exact_p_value(second - first), abs=0.015)


def test_groups_are_swapped_together() -> None:
    """Two images with five sentences each can be swapped in four ways only, two of them as extreme."""
    first, second = np.zeros(10), np.full(10, 100.0)
    groups = ["a"] * 5 + ["b"] * 5
    assert paired_randomisation_test(first, second, groups=groups).p_value == pytest.approx(0.5, abs=0.02)
    assert paired_randomisation_test(first, second).p_value < 0.01


def test_the_same_run_twice_differs_by_nothing() -> None:
    values = hits([1, None, 3], cutoff=1)
    assert paired_randomisation_test(values, values) == (0.0, 1.0)


def test_one_group_alone_shows_nothing() -> None:
    first, second = np.zeros(5), np.full(5, 100.0)
    assert bootstrap_interval(np.array([0.0, 100.0]), groups=["a", "a"]) == (50.0, 50.0)
    assert paired_randomisation_test(first, second, groups=["a"] * 5) == (100.0, 1.0)


def test_few_groups_are_swapped_in_every_way() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=9), rng.normal(0.5, size=9)
    assert paired_randomisation_test(first, second).p_value == pytest.approx(exact_p_value(second - first), abs=1e-12)


def test_a_paired_difference_is_that_of_the_means_with_the_bootstrap_interval_of_the_differences() -> None:
    rng = np.random.default_rng(6)
    first, second, groups = rng.normal(size=60), rng.normal(1.0, size=60), list(range(20)) * 3
    found = paired_difference(first, second, groups=groups)
    assert found.mean == pytest.approx(second.mean() - first.mean())
    assert found[1:] == bootstrap_interval(second - first, groups=groups)
    with pytest.raises(ValueError, match="2 and 3 queries"):
        paired_difference(np.zeros(2), np.zeros(3))


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 3 queries"):
        paired_randomisation_test(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="1 groups were given for 2 queries"):
        bootstrap_interval(np.zeros(2), groups=["a"])
    with pytest.raises(ValueError, match="no query"):
        bootstrap_interval(np.zeros(0))
