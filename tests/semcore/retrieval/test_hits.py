"""The order of hits when a share of the identifiers' prior comes off."""

from __future__ import annotations

import math

import pytest

from semcore.retrieval.hits import GeneratedHit, merged, without_prior

HITS = [GeneratedHit("a1", "a", -1.0), GeneratedHit("a2", "a", -1.0), GeneratedHit("b", "b", -2.0),
        GeneratedHit("c", "c", -3.0)]  # fmt: skip
PRIORS = {"a": -1.0, "b": -3.0, "c": -4.0}


def test_a_share_of_the_prior_comes_off_and_the_order_follows() -> None:
    assert [hit.item_id for hit in without_prior(HITS, {**PRIORS, "c": -9.0}, 0.5)] == ["c", "a1", "a2", "b"]
    assert without_prior(HITS, {**PRIORS, "c": -9.0}, 0.5)[0].score == 1.5
    assert [hit.item_id for hit in without_prior(HITS, {**PRIORS, "c": -9.0}, 0.5, 2)] == ["c", "a1"]


def test_equal_scores_keep_the_order_in_which_they_stood() -> None:
    """Items of one identifier among each other, and identifiers that come to the same score."""
    assert [hit.score for hit in without_prior(HITS, PRIORS, 0.5)] == [-0.5, -0.5, -0.5, -1.0]
    assert [hit.item_id for hit in without_prior(HITS, PRIORS, 0.5)] == ["a1", "a2", "b", "c"]


def test_a_weight_of_zero_changes_nothing() -> None:
    assert without_prior(HITS, PRIORS, 0.0) == HITS


def test_an_item_of_several_identifiers_sums_their_probabilities() -> None:
    hits = [GeneratedHit("a", "x", -1.0), GeneratedHit("b", "y", -1.2), GeneratedHit("b", "z", -1.3)]
    found = merged(hits)
    assert [hit.item_id for hit in found] == ["b", "a"]
    assert found[0][:3] == ("b", "y", pytest.approx(math.log(math.exp(-1.2) + math.exp(-1.3))))
    assert found[1] == hits[0]


def test_hits_of_different_items_stay_as_they_are() -> None:
    hits = [GeneratedHit("a", "x", -1.0), GeneratedHit("b", "x", -1.0), GeneratedHit("c", "z", -math.inf)]
    assert merged(hits) == hits


def test_priors_come_off_before_probabilities_are_summed() -> None:
    hits = [GeneratedHit("a", "x", -1.0), GeneratedHit("b", "y", -1.2), GeneratedHit("a", "z", -3.0)]
    found = without_prior(hits, {"x": -0.1, "y": -0.1, "z": -4.0}, 1.0, most=2)
    assert found[0].item_id == "a" and found[0].identifier == "z"
    assert found[0].score == pytest.approx(math.log(math.exp(-0.9) + math.exp(1.0)))
