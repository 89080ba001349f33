"""The index against a plain dictionary of prefixes."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semcore.decoding import IdentifierIndex
from semcore.decoding.token_sequences import flatten_long_text
from semcore.runtime.errors import UserError

END = 1
SEQUENCES = [[5, 7, END], [5, 8, 9, END], [5, 8, 9, END], [5, 7, 7, END], [3, END], [2, 4, 6, 8, 10, 12, END]]
ITEMS = ["a", "b", "c", "d", "e", "fé"]


def test_allowed_tokens_and_items_of_a_small_corpus() -> None:
    index = IdentifierIndex.from_sequences(SEQUENCES, ITEMS)
    assert index.allowed_tokens([]) == [2, 3, 5]
    assert index.allowed_tokens([5]) == [7, 8]
    assert index.allowed_tokens([5, 7]) == [END, 7]
    assert index.allowed_tokens([2, 4, 6]) == [8]
    assert index.allowed_tokens([5, 9]) == []
    assert index.allowed_tokens([3, END]) == []
    assert index.allowed_tokens([99]) == []
    assert index.items([5, 8, 9, END]) == ["b", "c"]
    assert index.items([2, 4, 6, 8, 10, 12, END]) == ["fé"]
    assert index.items([5, 8, 9]) == []
    assert index.items([3, END, END]) == []
    assert index.max_length == 7


sequences = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(sequences)
def test_every_prefix_agrees_with_a_dictionary(corpus: list[list[int]]) -> None:
    """Any corpus: one sequence a prefix of another, equal ones, single tokens, one item."""
    following: dict[tuple[int, ...], set[int]] = defaultdict(set)
    owners: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for number, sequence in enumerate(corpus):
        owners[tuple(sequence)].append(str(number))
        for end in range(len(sequence)):
            following[tuple(sequence[:end])].add(sequence[end])
    index = IdentifierIndex.from_sequences(corpus, [str(number) for number in range(len(corpus))])
    for prefix in {*following, *owners, (6, 6, 6, 6), (9,)}:
        assert index.allowed_tokens(prefix) == sorted(following.get(prefix, ()))
        assert index.items(prefix) == owners.get(prefix, [])


def test_many_tokens_sort_right_when_words_are_full() -> None:
    """Tokens of 20 bits fill a 63-bit word after three; the sort must go on behind it."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, 2, (500, 12)) * 1_000_003
    tokens[:, 0] = generator.integers(0, 2**20, 500)
    tokens[:250, 0] = 7
    index = IdentifierIndex.from_sequences(tokens.tolist(), [str(row) for row in range(500)])
    for row, sequence in enumerate(tokens.tolist()):
        assert str(row) in index.items(sequence)


def test_arrays_and_lists_build_the_same_index() -> None:
    flat = np.concatenate(SEQUENCES).astype(np.int32)
    offsets = np.cumsum([0, *map(len, SEQUENCES)])
    from_lists = IdentifierIndex.from_sequences(SEQUENCES, ITEMS)
    for index in (
        IdentifierIndex.from_sequences((flat, offsets), ITEMS),
        IdentifierIndex.from_sequences(flat, ITEMS, offsets=offsets),
    ):
        assert index.fingerprint == from_lists.fingerprint
        assert index.items([5, 8, 9, END]) == ["b", "c"]


def test_the_fingerprint_notices_every_change() -> None:
    """Tokens, boundaries, ids and tokenizer each count."""
    variants = [
        IdentifierIndex.from_sequences([[1, 2], [3, 4]], ["a", "b"]),
        IdentifierIndex.from_sequences([[1, 2, 3], [4]], ["a", "b"]),
        IdentifierIndex.from_sequences([[1, 2], [3, 5]], ["a", "b"]),
        IdentifierIndex.from_sequences([[1, 2], [3, 4]], ["a", "c"]),
        IdentifierIndex.from_sequences([[1, 2], [3, 4]], ["ab", ""]),
        IdentifierIndex.from_sequences([[1, 2], [3, 4]], ["a", "b"], tokenizer_fingerprint="other"),
    ]
    assert len({index.fingerprint for index in variants}) == len(variants)


def test_it_stays_small() -> None:
    """20,000 identifiers like the real ones: at most 60 bytes an item, ids included."""
    generator = np.random.default_rng(0)
    words = generator.zipf(1.3, (20_000, 6)) % 4000 + 200
    rows = np.column_stack([generator.integers(0, 128, 20_000), words, np.full(20_000, 199)])
    index = IdentifierIndex.from_sequences(rows.tolist(), [f"{row:07d}" for row in range(20_000)])
    assert index.nbytes / 20_000 <= 60


@pytest.mark.parametrize(
    ("sequences", "items", "sentence"),
    [
        ([], [], "the corpus is empty: an index needs at least one identifier"),
        ([[1], []], ["a", "b"], "identifier 1 is empty: every item needs at least one token"),
        ([[1], [2, -5]], ["a", "b"], "token -5 of identifier 1 lies outside any vocabulary"),
        ([[1], [2]], ["a"], "2 token sequences but 1 item ids: give one id a sequence"),
        ([["a"]], ["a"], "token sequences must hold whole numbers: tokenize the identifiers first"),
    ],
)
def test_bad_corpora_get_one_sentence(sequences: list, items: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        IdentifierIndex.from_sequences(sequences, items)
    assert str(error.value) == sentence


def test_offsets_that_do_not_fit_the_tokens_are_refused() -> None:
    with pytest.raises(UserError, match="offsets must run from 0 to the number of tokens, 3"):
        IdentifierIndex.from_sequences(np.array([1, 2, 3]), ["a"], offsets=np.array([0, 2]))


def test_end_tokens_are_those_that_only_end() -> None:
    assert IdentifierIndex.from_sequences([[5, 1], [6, 7, 2], [3]], ["a", "b", "c"]).end_tokens() == [1, 2, 3]
    with pytest.raises(UserError, match="token 5 ends one identifier and stands inside another"):
        IdentifierIndex.from_sequences([[5], [5, 1]], ["a", "b"]).end_tokens()


def test_ids_laid_end_to_end_build_the_same_index() -> None:
    ids = ["a", "犬", "", "é", "b"]
    sequences = [[5, 1], [5, 1], [6, 1], [7, 1], [5, 8, 1]]
    one = IdentifierIndex.from_sequences(sequences, ids)
    other = IdentifierIndex.from_sequences(sequences, flatten_long_text(iter(ids)))
    assert one.fingerprint == other.fingerprint and other.items([5, 1]) == ["a", "犬"]
    with pytest.raises(UserError, match="5 token sequences but 4 item ids"):
        IdentifierIndex.from_sequences(sequences, flatten_long_text(ids[:4]))
