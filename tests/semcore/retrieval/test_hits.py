"""The order of hits when a share of the identifiers' prior comes off."""

from __future__ import annotations

from semcore.retrieval.hits import GeneratedHit, without_prior

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
