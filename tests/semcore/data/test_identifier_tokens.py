"""Files of new tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semcore.data.identifier_files import code_row, identifier_parts, make_row, read_identifiers, units_of, with_more
from semcore.data.identifier_tokens import NewTokens, read_tokens, tokens_file, write_tokens
from semcore.data.row_digests import identifier_rows
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json, write_jsonl


def test_tokens_are_read_back(tmp_path: Path) -> None:
    tokens = NewTokens(
        ["<|code_1|>", "<|same_0|>"], [["dog"], []], np.array([[1, 2], [np.nan] * 2], np.float32), "codebook"
    )
    write_tokens(tmp_path, tokens)
    again = read_tokens(tmp_path)
    assert (again.texts, again.words, again.init) == (["<|code_1|>", "<|same_0|>"], [["dog"], []], "codebook")
    np.testing.assert_array_equal(again.vectors, tokens.vectors)
    assert tokens_file(tmp_path) == "tokens.json"


def test_older_runs_have_cluster_words(tmp_path: Path) -> None:
    write_json(tmp_path / "cluster_words.json", {"clusters": [{"words": ["dog"]}, {"words": []}]})
    tokens = read_tokens(tmp_path)
    assert (tokens.texts, tokens.words) == (["<|cluster_0|>", "<|cluster_1|>"], [["dog"], []])
    assert (tokens.vectors, tokens.init, tokens_file(tmp_path)) == (None, "words", "cluster_words.json")


@pytest.mark.parametrize("content", [{}, {"tokens": [{"text": "a"}], "init": "words", "vectors": None}])
def test_broken_tokens_are_one_sentence(tmp_path: Path, content: dict[str, object]) -> None:
    write_json(tmp_path / "tokens.json", content)
    with pytest.raises(UserError, match=r"tokens.json holds no new tokens; delete .* and make the identifiers again"):
        read_tokens(tmp_path)


def test_optional_keys_of_rows_are_read_back_and_count_as_content(tmp_path: Path) -> None:
    plain = make_row("a", "train", 1, ["dog", "park"])
    coded = code_row("b", "test", 2, [7, 0], ["<|cluster_2|><|code_0_7|><|code_1_0|>", "<|cluster_1|><|code_0_3|>"])
    write_jsonl(tmp_path / "identifiers" / "t2i.jsonl", [plain, coded])
    assert read_identifiers(tmp_path / "identifiers", "t2i") == [plain, coded]
    assert coded["more"] == ["<|cluster_1|><|code_0_3|>"] and "more" not in plain
    assert units_of(plain) == ["dog", "park"] and units_of(coded) == ["<|code_0_7|>", "<|code_1_0|>"]
    assert identifier_parts(coded) == ("<|cluster_2|>", "<|code_0_7|>", "<|code_1_0|>")
    digests = [content for _, content in identifier_rows(RunFolder(tmp_path), "t2i")]
    assert digests[0] == ["a", 1, ["dog", "park"], "<|cluster_1|>dog park"] and digests[1][-1] == coded["more"]


def test_an_identifier_stands_once() -> None:
    row = with_more(make_row("a", "train", 1, ["dog"]), ["<|cluster_1|>dog", "x", "x"])
    assert row["more"] == ["x"]
