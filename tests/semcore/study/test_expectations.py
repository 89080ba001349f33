"""Expected orders and the best row, with invented outcomes whose order is known; and the sentences about them."""

from __future__ import annotations

import pytest

from semcore.study.expectations import best_variant, verdict_of
from semcore.study.scores import Found
from semcore.study.statements import state_best, state_verdict
from semcore.study.tables import Expectation

NUM_QUERIES = 400
LABELS = {"a": "A", "b": "B"}


def at(percent: float) -> Found:
    """Return outcomes with this R@1: the first queries find the right item, the others do not."""
    keys = [(0, str(number)) for number in range(NUM_QUERIES)]
    ranks = {key: 1 if number < NUM_QUERIES * percent / 100 else None for number, key in enumerate(keys)}
    return Found({"t2i": ranks}, {"t2i": {key: key for key in keys}})


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        (60, 40, "as expected"),
        (40, 60, "reversed beyond chance"),
        (40.25, 40, "within chance"),  # one query of 400
        (40, 40.25, "within chance"),
        (40, 40, "within chance"),
    ],
)
def test_a_verdict_needs_an_interval_that_excludes_zero(better: float, worse: float, verdict: str) -> None:
    found = {"a": at(better), "b": at(worse)}
    own = verdict_of(Expectation("a", "b", source="its paper"), found, "t2i")
    assert own["verdict"] == verdict and own["difference"] == better - worse
    assert own["low"] <= own["difference"] <= own["high"]
    assert f"A above B (its paper): {verdict}, {better - worse:+.1f} [" in state_verdict(own, LABELS)


def test_the_best_row_is_named_with_its_lead() -> None:
    best = best_variant({"a": at(40), "b": at(60)}, "a", "t2i", "R@1")
    assert (best["best"], best["mean"], best["difference"]) == ("b", 60, 20)
    assert state_best(best, LABELS).startswith("- text → image, R@1: best is B with 60.0, +20.0 [+")
    assert state_best(best, LABELS).endswith("over A.")


def test_a_row_that_is_best_itself_has_no_lead() -> None:
    best = best_variant({"a": at(60), "b": at(40)}, "a", "t2i", "R@1")
    assert state_best(best, LABELS) == "- text → image, R@1: best is A with 60.0."
