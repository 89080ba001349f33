"""Items with the same codes, told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semcore.identifiers.code_settings import Collisions
from semcore.identifiers.collisions import Codes, tell_apart

CODES: list[Codes] = [(1, 2), (1, 2), (3, 0), (1, 2)]
SPLITS = ["test", "train", "train", "val"]


def others_of(codes: Sequence[Codes]) -> Callable[[int], Iterable[Codes]]:
    """Return what "next" reads: the item's own codes first, then the last code counted on, of four."""

    def others(place: int) -> Iterable[Codes]:
        *before, last = codes[place]
        return ((*before, (last + step) % 4) for step in range(4))

    return others


def test_shared_codes_stay() -> None:
    assert tell_apart(CODES, SPLITS, "share", others_of(CODES)) == [(own, None) for own in CODES]


def test_counting_begins_with_train() -> None:
    assert tell_apart(CODES, SPLITS, "count", others_of(CODES)) == [((1, 2), 2), ((1, 2), 0), ((3, 0), 0), ((1, 2), 1)]


def test_the_next_free_code_is_taken_and_a_number_where_none_is() -> None:
    told = tell_apart(CODES, SPLITS, "next", others_of(CODES))
    assert told == [((1, 0), None), ((1, 2), None), ((3, 0), None), ((1, 3), None)]
    full: list[Codes] = [(0, 0)] * 6
    told = tell_apart(full, ["train"] * 6, "next", others_of(full))
    assert told == [((0, 0), None), ((0, 1), None), ((0, 2), None), ((0, 3), None), ((0, 0), 1), ((0, 0), 2)]


@pytest.mark.parametrize("rule", ["count", "next"])
@given(rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["train", "val", "test"]))))
def test_all_are_unique_and_a_test_item_moves_no_other(rule: Collisions, rows: list[tuple[int, int, str]]) -> None:
    codes: list[Codes] = [(first, last) for first, last, _ in rows]
    splits = [split for *_, split in rows]
    told = tell_apart(codes, splits, rule, others_of(codes))
    assert len(set(told)) == len(told)
    kept = [place for place, split in enumerate(splits) if split != "test"]
    without = [codes[place] for place in kept]
    alone = tell_apart(without, [splits[place] for place in kept], rule, others_of(without))
    assert alone == [told[place] for place in kept]
