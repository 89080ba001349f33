"""The weight of the prior, fitted on candidates whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

from semcore.data.items_and_queries import Queries
from semcore.evaluation.prior_weights import PriorWeight, fit_prior_weight, fit_weight
from semcore.retrieval.batch import SplitView
from semcore.retrieval.hits import GeneratedHit


def candidates(num_queries: int, weight: float, seed: int = 0) -> tuple[Any, Any, Any]:
    """Return scores, priors and truth of ten candidates a query, where score - weight * prior says what is right."""
    rng = np.random.default_rng(seed)
    priors = rng.normal(-8, 3, (num_queries, 10))
    evidence = rng.normal(0, 2, (num_queries, 10))
    shares = np.exp(evidence - logsumexp(evidence, axis=1, keepdims=True))
    right = np.stack([np.arange(10) == rng.choice(10, p=own) for own in shares])
    return evidence + weight * priors, priors, right


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_the_weight_that_made_the_scores_is_found(weight: float) -> None:
    assert fit_weight(*candidates(2000, weight)) == pytest.approx(weight, abs=0.05)


def test_a_prior_that_says_nothing_is_left_alone_and_one_that_helps_more_than_wholly_off_is_off() -> None:
    scores, priors, right = candidates(2000, -0.5)
    assert fit_weight(scores, priors, right) == pytest.approx(0.0, abs=0.01)
    scores, priors, right = candidates(2000, 1.5)
    assert fit_weight(scores, priors, right) == pytest.approx(1.0, abs=0.01)


def test_few_queries_leave_the_weight_near_zero_and_many_do_not() -> None:
    """On average over draws of the queries."""
    one, few, many = (np.mean([fit_weight(*candidates(n, 0.8, seed)) for seed in range(20)]) for n in (1, 8, 200))
    assert one < 0.1
    assert one < few < many
    assert many == pytest.approx(0.8, abs=0.05)


def test_nothing_to_learn_from_is_a_weight_of_zero() -> None:
    """No query, no right candidate, nothing but right ones."""
    assert fit_weight([], [], []) == 0.0
    assert fit_weight([[-1.0, -2.0]], [[-3.0, -9.0]], [[False, False]]) == 0.0
    assert fit_weight([[-1.0, -2.0]], [[-3.0, -9.0]], [[True, True]]) == 0.0
    assert fit_weight([[]], [[]], [[]]) == 0.0


def test_the_fit_is_the_same_again_and_for_queries_in_another_order() -> None:
    scores, priors, right = candidates(300, 0.6)
    first = fit_weight(scores, priors, right)
    assert fit_weight(scores, priors, right) == first
    assert fit_weight(scores[::-1], priors[::-1], right[::-1]) == pytest.approx(first, abs=1e-4)


def fitted_on(scores: Any, priors: Any, right: Any) -> PriorWeight:
    """Fit on queries the first five of which ask for one image."""
    contents = {f"s{number}": f"sentence {number}" for number in range(len(scores))}
    relevant = {query: {"shared" if number < 5 else query} for number, query in enumerate(contents)}
    hits = {
        contents[query]: [
            GeneratedHit(next(iter(relevant[query])) if truth else "wrong", f"{query} {place}", score)
            for place, (truth, score) in enumerate(zip(right[number], scores[number], strict=True))
        ]
        for number, query in enumerate(contents)
    }
    of_identifier = {f"s{query} {place}": prior for (query, place), prior in np.ndenumerate(priors)}
    return fit_prior_weight(SplitView({}, Queries(contents, contents, relevant)), hits, of_identifier)


def test_no_query_of_val_meets_a_weight_that_was_fitted_on_it_or_on_its_image() -> None:
    """What is right for one image's five sentences moves the weight of the others, not theirs."""
    scores, priors, right = candidates(60, 0.8)
    other = right.copy()
    other[:5] = np.arange(10) == priors[:5].argmax(axis=1, keepdims=True)
    before, after = fitted_on(scores, priors, right), fitted_on(scores, priors, other)
    assert before.overall == pytest.approx(fit_weight(scores, priors, right), abs=1e-9)
    assert after.overall != pytest.approx(before.overall, abs=1e-3)
    for number in range(5):
        assert after.of("val fold 1", f"sentence {number}") == before.of("val", f"sentence {number}")
    assert after.of("test", "sentence 0") == after.overall
    assert any(after.of("val", f"sentence {n}") != before.of("val", f"sentence {n}") for n in range(5, 60))


def test_val_has_its_own_weights_and_test_the_one_of_all() -> None:
    weight = PriorWeight(0.5, {"asked": 0.2})
    assert [weight.of(split, "asked") for split in ("val", "test")] == [0.2, 0.5]
    assert weight.of("val", "never asked") == 0.5
