"""Tables in STUDY.yaml: what they may say, and what they may not."""

from __future__ import annotations

from typing import Any

import pytest

from semcore.runtime.errors import UserError
from semcore.study.tables import Expectation, read_table

NAMES = ("a", "b", "c")


def test_a_table_has_all_variants_unless_it_names_some() -> None:
    assert list(read_table({"title": "t"}, NAMES, "table 1").variants) == ["a", "b", "c"]
    table = read_table({"title": "t", "variants": ["c", "a"], "ranking": "generated", "against": "a"}, NAMES, "table 1")
    assert (list(table.variants), table.ranking, table.against, table.costs) == (["c", "a"], "generated", "a", False)


def test_expectations_are_of_the_first_place_unless_they_say_otherwise() -> None:
    pairs = [{"better": "a", "worse": "b", "source": "its paper"}, {"better": "c", "worse": "a", "metric": "R@5"}]
    table = read_table({"title": "t", "expected": pairs}, NAMES, "table 1")
    assert list(table.expected) == [Expectation("a", "b", "R@1", "its paper"), Expectation("c", "a", "R@5", "")]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("a", "table 1 needs lines such as 'key: value', found 'a'"),
        ({}, "table 1 lacks a title"),
        ({"title": "t", "variant": ["a"]}, "unknown key 'variant' in table 1; did you mean variants"),
        ({"title": "t", "variants": ["z"]}, "table 1 names 'z'"),
        ({"title": "t", "ranking": "best"}, "ranking of table 1 names 'best'"),
        ({"title": "t", "costs": "yes please"}, "costs of table 1 takes true or false, found 'yes please'"),
        ({"title": "t", "variants": ["a"], "against": "b"}, "against of table 1 names 'b'"),
        ({"title": "t", "axis": 5}, "axis of table 1 takes a setting such as evaluate.num_beams, found 5"),
        ({"title": "t", "expected": [{"better": "a", "worse": "a"}]}, "expected of table 1 compares a with itself"),
        ({"title": "t", "paper": "no"}, "paper of table 1 takes true or false, found 'no'"),
        ({"title": "t", "variants": "abc"}, r"variants of table 1 needs a list such as '\[a, b\]'.* found 'abc'"),
        ({"title": "t", "expected": 5}, "expected of table 1 needs a list .* found 5"),
        ({"title": "t", "expected": {"better": "a"}}, "expected of table 1 needs a list"),
        ({"title": "t", "expected": [{"better": "a"}]}, "worse of expected of table 1 names None"),
        ({"title": "t", "expected": [{"better": "a", "worse": "b", "metric": "R@2"}]}, "metric of .* names 'R@2'"),
        ({"title": "t", "expected": [{"better": "a", "worse": "b", "why": "x"}]}, "unknown key 'why' in expected"),
        ({"title": "t", "variants": ["a", "b"], "expected": [{"better": "a", "worse": "c"}]}, "worse of .* names 'c'"),
    ],
)
def test_what_makes_no_sense_is_named(content: Any, found: str) -> None:
    with pytest.raises(UserError, match=found):
        read_table(content, NAMES, "table 1")
