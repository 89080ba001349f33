"""Saving and loading an index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from semcore.decoding import IdentifierIndex
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


def test_a_stale_index_is_refused(index: IdentifierIndex, tmp_path: Path) -> None:
    path = tmp_path / "index.safetensors"
    index.save(path)
    other = IdentifierIndex.from_sequences([[5, 7, 1]], ["a"])
    with pytest.raises(UserError, match="was built from other identifiers or another tokenizer"):
        IdentifierIndex.load(path, other.fingerprint)


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
