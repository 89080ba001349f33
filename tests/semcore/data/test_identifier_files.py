"""Format of identifiers, and reading their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from semcore.data.identifier_files import (
    NO_CLUSTER,
    identifier_text,
    make_row,
    read_cluster_words,
    read_identifiers,
)
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json, write_jsonl


def test_the_keywords_follow_the_cluster_token_without_a_space() -> None:
    assert identifier_text(17, ["dog", "park", "frisbee", "leash"]) == "<|cluster_17|>dog park frisbee leash"
    assert identifier_text(17, []) == "<|cluster_17|>"
    assert identifier_text(NO_CLUSTER, ["dog", "park"]) == "dog park"


def test_rows_are_read_back_by_split(tmp_path: Path) -> None:
    rows = [make_row("a", "train", 1, ["dog"]), make_row("b", "test", 0, [])]
    write_jsonl(tmp_path / "t2i.jsonl", rows)
    assert read_identifiers(tmp_path, "t2i") == rows
    assert read_identifiers(tmp_path, "t2i", "test") == rows[1:]


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=f"there is no .*i2t.jsonl; make it with .*data_prep.identifiers --run {tmp_path}"
    ):
        read_identifiers(tmp_path / "identifiers", "i2t")


def test_a_row_that_lacks_something_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "t2i.jsonl").write_text('\n{"item_id": "a", "split": "test", "global_id": 1}\n')
    with pytest.raises(UserError, match="t2i.jsonl, line 2: lexical_id and identifier missing"):
        read_identifiers(tmp_path, "t2i")


def test_cluster_words_are_read_by_global_id(tmp_path: Path) -> None:
    write_json(tmp_path / "cluster_words.json", {"clusters": [{"words": ["dog", "park"]}, {"words": []}]})
    assert read_cluster_words(tmp_path) == [["dog", "park"], []]
    write_json(tmp_path / "cluster_words.json", {"words": ["dog"]})
    with pytest.raises(UserError, match="holds no clusters"):
        read_cluster_words(tmp_path)
