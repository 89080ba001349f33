"""Saving and loading an index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from semcore.decoding import IdentifierIndex
from semcore.decoding.index import ITEM_ARRAYS, TRIE_ARRAYS
from semcore.decoding.index_file import load_arrays, save_arrays
from semcore.runtime.errors import UserError


@pytest.fixture
def index() -> IdentifierIndex:
    return IdentifierIndex.from_sequences([[5, 7, 1], [5, 8, 1], [5, 8, 1]], ["a", "b", "ü"], tokenizer_fingerprint="t")


def test_a_loaded_index_answers_like_the_saved_one(index: IdentifierIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "deep" / "index.safetensors")
    loaded = IdentifierIndex.load(tmp_path / "deep" / "index.safetensors", index.fingerprint)
    assert loaded.fingerprint == index.fingerprint
    assert loaded.nbytes == index.nbytes
    assert loaded.max_length == 3
    assert loaded.allowed_tokens([5]) == [7, 8]
    assert loaded.items([5, 8, 1]) == ["b", "ü"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["index.safetensors"]


def test_the_same_index_is_the_same_file_whatever_the_order_of_its_metadata(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {"a": np.arange(3), "b": np.ones(2, np.float32)}
    words = {f"name {n}": f'wört \n \x01 "{n}"' for n in range(9)}
    save_arrays(tmp_path / "one", arrays, words)
    save_arrays(tmp_path / "other", arrays, dict(reversed(words.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    found, metadata = load_arrays(tmp_path / "one", ("a", "b"))
    assert {name: array.tolist() for name, array in found.items()} == {"a": [0, 1, 2], "b": [1.0, 1.0]}
    assert words.items() <= metadata.items()


def test_a_stale_index_is_refused(index: IdentifierIndex, tmp_path: Path) -> None:
    path = tmp_path / "index.safetensors"
    index.save(path)
    other = IdentifierIndex.from_sequences([[5, 7, 1]], ["a"])
    with pytest.raises(UserError, match="was built from other identifiers or another tokenizer"):
        IdentifierIndex.load(path, other.fingerprint)


def damaged(index: IdentifierIndex, path: Path, name: str, value: np.ndarray | str) -> Path:
    """Save an index of which one array, or the largest length, is another."""
    index.save(path)
    arrays, metadata = load_arrays(path, TRIE_ARRAYS + ITEM_ARRAYS)
    if isinstance(value, str):
        metadata[name] = value
    else:
        arrays[name] = value
    save_arrays(path, arrays, {key: own for key, own in metadata.items() if key != "format"})
    return path


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("node_link", np.array([1, 0, 0, 1], np.int16), "no tree"),  # a node is its own grandparent
        ("node_link", np.array([1, 1, 0, 1], np.int16), "no tree"),
        ("node_link", np.array([1, 2, 0, 9], np.int16), "no tree"),
        ("node_fanout", np.array([1, 1000, 0, 0], np.int16), "no tree"),
        ("node_fanout", np.array([1, -1, 0, 0], np.int16), "no tree"),
        ("node_token", np.array([-1, 0, 1, 99], np.int16), "do not belong together"),
        ("node_token", np.array([-1, 0], np.int16), "do not belong together"),
        ("tail_start", np.array([0, 5, 2], np.int16), "tail_start leads outside"),
        ("tail_start", np.array([0, 1, 1000], np.int16), "tail_start leads outside"),
        ("text_start", np.array([0, 1, 2, 400], np.int32), "text_start leads outside"),
        ("item_start", np.array([-1, 1, 3], np.int32), "item_start leads outside"),
        ("vocabulary", np.array([7, 5, 1, 8], np.int32), "tokens are not in order"),
        ("vocabulary", np.array([1.0, 5.0, 7.0, 8.0]), "vocabulary is no list of whole numbers"),
        ("text", np.zeros((2, 2), np.uint8), "text is no list of whole numbers"),
        ("max_length", "many", "no largest length"),
        ("max_length", "9" * 5_000, "no largest length"),
    ],
)
def test_a_file_that_says_nonsense_is_refused(
    index: IdentifierIndex, tmp_path: Path, name: str, value: np.ndarray | str, reason: str
) -> None:
    path = damaged(index, tmp_path / "index.safetensors", name, value)
    with pytest.raises(UserError, match=rf"index\.safetensors is damaged \(.*{reason}\): build the index again"):
        IdentifierIndex.load(path)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), min_size=1, max_size=12), st.data())
def test_an_index_that_was_changed_again_and_again_is_no_damaged_one(
    tmp_path_factory: pytest.TempPathFactory, sequences: list[list[int]], data: st.DataObject
) -> None:
    names = [f"i{number}" for number in range(len(sequences))]
    half = len(names) // 2 + 1
    index = IdentifierIndex.from_sequences(sequences[:half], names[:half])
    for sequence, name in zip(sequences[half:], names[half:], strict=True):
        index.add([sequence], [name])
        if data.draw(st.booleans()):
            index.remove([name])
    path = tmp_path_factory.mktemp("index") / "index.safetensors"
    index.save(path)
    assert IdentifierIndex.load(path).sequences() == index.sequences()


def test_a_truncated_a_foreign_and_a_missing_file_are_refused(index: IdentifierIndex, tmp_path: Path) -> None:
    path = tmp_path / "index.safetensors"
    index.save(path)
    content = path.read_bytes()
    for size in (0, 7, 100, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match="is cut short or no index file"):
            IdentifierIndex.load(path)
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(UserError, match="holds no identifier index of this version"):
        IdentifierIndex.load(path)
    with pytest.raises(UserError, match="there is no index file"):
        IdentifierIndex.load(tmp_path / "none.safetensors")
