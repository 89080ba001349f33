"""Adding and removing items: the changed index is the index of the changed corpus."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semcore.decoding import IdentifierIndex, constrained_beam_search, updates
from semcore.runtime.errors import UserError
from tests.semcore.decoding import tiny

Rows = list[tuple[str, list[int]]]


def index_of(rows: Rows) -> IdentifierIndex:
    return IdentifierIndex.from_sequences([sequence for _, sequence in rows], [item for item, _ in rows])


def content(index: IdentifierIndex) -> dict[tuple[int, ...], list[str]]:
    return {sequence: index.items(sequence) for sequence in index.sequences()}


def expected_content(rows: Rows) -> dict[tuple[int, ...], list[str]]:
    found: dict[tuple[int, ...], list[str]] = {}
    for item, sequence in rows:
        found.setdefault(tuple(sequence), []).append(item)
    return found


def assert_same_answers(index: IdentifierIndex, rows: Rows) -> None:
    assert content(index) == expected_content(rows)
    fresh = index_of(rows)
    for _, sequence in rows:
        for end in range(len(sequence) + 1):
            assert index.allowed_tokens(sequence[:end]) == fresh.allowed_tokens(sequence[:end])


sequences = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5), min_size=1, max_size=12)


@pytest.mark.parametrize("large_share", [0, 4], ids=["worked in", "as usual"])
@settings(max_examples=80, deadline=None)
@given(first=sequences, steps=st.lists(st.tuples(sequences, st.randoms(use_true_random=False)), max_size=4))
def test_any_history_of_changes(large_share: int, first: list, steps: list) -> None:
    """Additions and removals in turn; a share of 0 never builds anew for the size of a change."""
    usual, updates.LARGE_SHARE = updates.LARGE_SHARE, large_share
    try:
        rows: Rows = [(f"first-{number}", sequence) for number, sequence in enumerate(first)]
        index = index_of(rows)
        for step, (more, chance) in enumerate(steps):
            new = [(f"{step}-{number}", sequence) for number, sequence in enumerate(more)]
            index.add([sequence for _, sequence in new], [item for item, _ in new])
            rows = rows + new
            assert_same_answers(index, rows)
            gone = {item for item, _ in rows if chance.random() < 0.4} - {rows[0][0]}
            index.remove(sorted(gone))
            rows = [(item, sequence) for item, sequence in rows if item not in gone]
            assert_same_answers(index, rows)
    finally:
        updates.LARGE_SHARE = usual


def test_a_search_over_a_changed_index_is_that_of_a_fresh_one() -> None:
    identifiers = tiny.corpus(60)
    rows = [(str(number), sequence) for number, sequence in enumerate(identifiers)]
    index = index_of(rows[:50])
    index.add([sequence for _, sequence in rows[50:]], [item for item, _ in rows[50:]])
    index.remove([str(number) for number in range(10)])
    model, inputs = tiny.qwen2(), tiny.text_prompts([4, 7])
    changed = constrained_beam_search(model, inputs, index, num_beams=8)
    fresh = constrained_beam_search(model, inputs, index_of(rows[10:]), num_beams=8)
    assert changed.sequences == fresh.sequences
    assert torch.allclose(changed.scores, fresh.scores, atol=1e-4)


def test_many_small_changes_do_not_pile_up() -> None:
    """Unused places are cleared now and then."""
    index = index_of([(str(number), sequence) for number, sequence in enumerate(tiny.corpus(200))])
    fresh = index.nbytes
    for number in range(300):
        index.add([[3, 4, 5 + number % 40, tiny.END]], [f"new-{number}"])
        index.remove([f"new-{number}"])
    assert index.nbytes < 3 * fresh


def test_a_changed_index_has_another_fingerprint_and_can_be_saved(tmp_path) -> None:
    index = index_of([("a", [5, 1]), ("b", [6, 1])])
    before = index.fingerprint
    index.add([[7, 8, 1]], ["ü"])
    assert index.fingerprint != before
    index.save(tmp_path / "index.safetensors")
    loaded = IdentifierIndex.load(tmp_path / "index.safetensors", index.fingerprint)
    assert content(loaded) == content(index)
    loaded.remove(["a"])
    assert loaded.allowed_tokens([]) == [6, 7]
    assert index.allowed_tokens([]) == [5, 6, 7]


def test_an_item_goes_with_all_its_sequences() -> None:
    index = index_of([("a", [5, 1]), ("a", [6, 1]), ("b", [6, 1])])
    index.remove(["a"])
    assert content(index) == {(6, 1): ["b"]}


def test_mistakes_change_nothing() -> None:
    index = index_of([("a", [5, 1]), ("b", [6, 1])])
    fingerprint = index.fingerprint
    with pytest.raises(UserError, match="item 'c' is not in the index"):
        index.remove(["a", "c"])
    with pytest.raises(UserError, match="would leave the index empty"):
        index.remove(["a", "b"])
    with pytest.raises(UserError, match="identifier 1 is empty"):
        index.add([[7, 1], []], ["c", "d"])
    assert index.fingerprint == fingerprint
    assert content(index) == {(5, 1): ["a"], (6, 1): ["b"]}
