"""Orders beside the paper's, with invented outcomes whose order is known; and the sentences about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from semcore.study.definition import read_study
from semcore.study.paper_order import best_of_grid, is_sure, order_along_axis, order_of_variants
from semcore.study.scores import Found
from semcore.study.statements import state_axis, state_grid, state_order
from semcore.study.summary import findings_of

NUM_QUERIES = 400
AXES = {"axis": "clusters", "lines": "keywords"}
LABELS = {"a": "A", "b": "B", "c": "C"}


def at(percent: float) -> Found:
    """Return outcomes with this R@1: the first queries find the right item, the others do not."""
    keys = [(0, str(number)) for number in range(NUM_QUERIES)]
    ranks = {key: 1 if number < NUM_QUERIES * percent / 100 else None for number, key in enumerate(keys)}
    return Found({"t2i": ranks}, {"t2i": {key: key for key in keys}})


def test_the_papers_own_order_agrees() -> None:
    paper = {"a": 69.0, "b": 60.0, "c": 50.0}
    order = order_of_variants(paper, {"a": at(40), "b": at(30), "c": at(20)}, "t2i", "R@1")
    assert (order["ours"], order["paper"], order["kendall_tau"]) == (["a", "b", "c"], ["a", "b", "c"], 1)
    assert order["agrees"] and order["reversed"] == []
    assert "the order agrees with the paper's. Here A > B > C; paper A > B > C. 3 of 3" in state_order(order, LABELS)


def test_reversed_pairs_are_named_and_tested() -> None:
    paper = {"a": 69.0, "b": 60.0, "c": 50.0}
    order = order_of_variants(paper, {"a": at(40), "b": at(20), "c": at(40.25)}, "t2i", "R@1")
    assert order["reversed"] == [("a", "c"), ("b", "c")]
    assert order["reversed_beyond_chance"] == [("b", "c")]  # a and c differ in one query of 400
    assert order["kendall_tau"] == pytest.approx(-1 / 3, abs=1e-3)
    text = state_order(order, LABELS)
    assert "does not agree" in text and "of the others 1 beyond chance (C above B)" in text


def test_equals_are_neither_alike_nor_reversed() -> None:
    order = order_of_variants({"a": 69.0, "b": 60.0}, {"a": at(40), "b": at(40)}, "t2i", "R@1")
    assert (order["num_alike"], order["reversed"], order["kendall_tau"], order["agrees"]) == (0, [], 0, False)
    assert "agrees within chance with" in state_order(order, LABELS)
    grid = best_of_grid({(4, 8): at(20), (2, 8): at(20), (2, 4): at(10)}, (4, 8), "t2i", "R@1")
    assert grid["best"] == (4, 8) and grid["num_best"] == 2
    assert "1 more that are as good" in state_grid({**grid, **AXES})


def test_a_difference_is_sure_where_its_interval_leaves_zero_out() -> None:
    assert is_sure(at(40), at(50), "t2i", "R@1")
    assert not is_sure(at(40), at(40.25), "t2i", "R@1")


def test_a_setting_is_monotone_or_not() -> None:
    rising = order_along_axis({20: at(30), 10: at(20), 50: at(31)}, "t2i", "R@1")
    assert (rising["values"], rising["means"], rising["gain"]) == ([10, 20, 50], [20, 30, 31], 11)
    assert rising["monotone"] and "never falls" in state_axis({**rising, **AXES})
    falling = order_along_axis({10: at(20), 20: at(10), 30: at(9.75)}, "t2i", "R@1")
    assert not falling["monotone"] and falling["falls_beyond_chance"] == [(10, 20)]
    assert "1 steps down beyond chance" in state_axis({**falling, **AXES})
    assert order_along_axis({20: at(30)}, "t2i", "R@1")["monotone"]


def test_the_grids_best_is_held_against_the_references() -> None:
    found: dict[tuple[float, float], Found] = {(c, k): at(20) for c in (2, 4, 8) for k in (4, 8, 12)}
    best = best_of_grid({**found, (4, 8): at(30)}, (4, 8), "t2i", "R@1")
    assert best["reference_is_best"] and best["means"]["4 by 8"] == 30
    assert best["spread"] == {"4": 0, "8": 10, "12": 0}
    other = best_of_grid({**found, (8, 4): at(30), (4, 8): at(29.75)}, (4, 8), "t2i", "R@1")
    assert (other["best"], other["reference_is_best"], other["best_beyond_chance"]) == ((8, 4), False, False)
    assert "within chance of the reference's 4 and 8" in state_grid({**other, **AXES})


def test_a_grid_may_have_gaps_or_one_point_only_or_no_reference() -> None:
    points = [(4, 8), (2, 4), (4, 4), (8, 4), (2, 8), (8, 8), (4, 12)]
    order = best_of_grid({point: at(20 + point[0]) for point in points}, (4, 8), "t2i", "R@1")
    assert order["spread"] == {"4": 6, "8": 6}
    assert "6.0 with 4, 6.0 with 8" in state_grid({**order, **AXES})
    alone = best_of_grid({(4, 8): at(20)}, None, "t2i", "R@1")
    assert (
        alone["spread"] == {} and not alone["best_beyond_chance"] and "reference" not in state_grid({**alone, **AXES})
    )


def test_intervals_come_from_the_images_not_from_the_queries() -> None:
    """Five sentences of an image that fail together are one image that fails."""
    rng = np.random.default_rng(1)
    hit = np.repeat(rng.random(12) < 0.7, 30)
    keys = [(0, str(number)) for number in range(len(hit))]
    ranks = dict(zip(keys, [1 if own else None for own in hit], strict=True))
    alone = {key: key for key in keys}
    together = {key: number // 30 for number, key in enumerate(keys)}
    everything = dict.fromkeys(keys, 1)
    assert is_sure(Found({"t2i": ranks}, {"t2i": alone}), Found({"t2i": everything}, {"t2i": alone}), "t2i", "R@1")
    few = {key: 1 if together[key] else rank for key, rank in ranks.items()}
    first, second = Found({"t2i": few}, {"t2i": together}), Found({"t2i": everything}, {"t2i": together})
    assert not is_sure(first, second, "t2i", "R@1")


def test_a_table_without_the_papers_figures_compares_no_order(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("{}")
    variants = [{"name": "a", "paper": {"R@1": 69}}, {"name": "b", "paper": {"R@1": 60}}]
    study = {"title": "t", "base": "base.yaml", "variants": variants}
    study["tables"] = [{"title": "with"}, {"title": "without", "paper": False}]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    read, found = read_study(tmp_path / "study.yaml"), {"a": at(40), "b": at(30)}
    kinds = [[order["kind"] for order in findings_of(read, table, found)["orders"]] for table in read.tables]
    assert kinds == [["order"], []]
