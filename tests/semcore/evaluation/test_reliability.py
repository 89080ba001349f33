"""Reliability and coverage against risk, against loops over plain lists."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semcore.evaluation.reliability import COVERAGES, coverage_risk, reliability

CASES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def columns(cases: list[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [confidence for confidence, _ in cases], [right for _, right in cases]


@given(CASES, st.integers(1, 12))
def test_ece_and_brier_are_their_definitions(cases: list[tuple[float, bool]], num_bins: int) -> None:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in cases:
        bins.setdefault(min(int(confidence * num_bins), num_bins - 1), []).append((confidence, right))
    ece = 0.0
    for own in bins.values():
        mean, share = (sum(column) / len(own) for column in zip(*own, strict=True))
        ece += len(own) / len(cases) * abs(mean - share)
    measured = reliability(*columns(cases), num_bins=num_bins)
    assert measured["ece"] == pytest.approx(ece)
    assert measured["brier"] == pytest.approx(sum((c - r) ** 2 for c, r in cases) / len(cases))
    assert [own["num_cases"] for own in measured["bins"]] == [len(bins[place]) for place in sorted(bins)]
    assert all(own["low"] - 1e-9 <= own["confidence"] <= own["high"] + 1e-9 for own in measured["bins"])


def test_confidence_that_holds_has_no_error() -> None:
    right = [True] * 8 + [False] * 2 + [True] * 2 + [False] * 8
    measured = reliability([0.8] * 10 + [0.2] * 10, right)
    assert measured["ece"] == pytest.approx(0)
    assert measured["base_rate"] == 0.5
    assert reliability([0.8] * 10, [False] * 10)["ece"] == pytest.approx(0.8)


@given(CASES)
def test_risk_is_that_of_answering_the_most_confident(cases: list[tuple[float, bool]]) -> None:
    rng = random.Random(0)
    risks = [0.0] * len(cases)
    for _ in range(400):  # equal confidences in random order; the mean is what is told
        shuffled = rng.sample(cases, len(cases))
        ordered = sorted(shuffled, key=lambda case: -case[0])
        wrong = 0
        for place, (_, right) in enumerate(ordered):
            wrong += not right
            risks[place] += wrong / (place + 1) / 400
    measured = coverage_risk(*columns(cases))
    assert measured["aurc"] == pytest.approx(100 * sum(risks) / len(cases), abs=4)
    assert [point["coverage"] for point in measured["points"]] == list(COVERAGES)
    assert measured["points"][-1]["risk"] == pytest.approx(100 * sum(not right for _, right in cases) / len(cases))


def test_nothing_to_measure_is_no_error() -> None:
    assert reliability([], []) == {"num_cases": 0}
    assert coverage_risk([], []) == {"aurc": None, "points": []}
