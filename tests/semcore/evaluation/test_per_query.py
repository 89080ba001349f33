"""The rows of the per-query file."""

from pathlib import Path

import pytest

from semcore.evaluation.per_query import per_query_rows, read_per_query, write_per_query
from semcore.retrieval.hits import GeneratedHit
from semcore.runtime.errors import UserError

QUERIES = {"q1": "a red circle", "q2": "a blue square"}
QRELS = {"q1": {"b"}, "q2": {"z", "y"}}
GENERATED = {"q1": [GeneratedHit("a", "<|cluster_1|>red", -0.5), GeneratedHit("b", "<|cluster_2|>", -0.75)]}
VERIFIED = {"q1": [("b", 2.0), ("a", 1.0)]}


def test_a_row_has_the_query_its_relevant_items_and_its_hits() -> None:
    first, second = per_query_rows(QUERIES, QRELS, GENERATED, VERIFIED)
    assert first == {
        "query_id": "q1",
        "query": "a red circle",
        "right": ["b"],
        "generated": [
            {"item_id": "a", "identifier": "<|cluster_1|>red", "score": -0.5},
            {"item_id": "b", "identifier": "<|cluster_2|>", "score": -0.75},
        ],
        "verified": [{"item_id": "b", "score": 2.0}, {"item_id": "a", "score": 1.0}],
        "rank_generated": 2,
        "rank_verified": 1,
    }
    assert second["right"] == ["y", "z"]
    assert second["generated"] == second["verified"] == []
    assert second["rank_generated"] is second["rank_verified"] is None


def test_lists_are_cut_and_ranks_are_not() -> None:
    hits = [GeneratedHit(f"item{i}", "x", -float(i)) for i in range(30)]
    verified = [(f"item{i}", -float(i)) for i in range(30)]
    (row,) = per_query_rows({"q": "text"}, {"q": {"item25"}}, {"q": hits}, {"q": verified})
    assert (len(row["generated"]), len(row["verified"])) == (20, 10)
    assert (row["rank_generated"], row["rank_verified"]) == (26, 26)


def test_the_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "per_query.jsonl"
    write_per_query(path, QUERIES, QRELS, GENERATED, VERIFIED)
    assert read_per_query(path) == list(per_query_rows(QUERIES, QRELS, GENERATED, VERIFIED))


def test_a_missing_file_and_a_missing_key_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file.*`semcore evaluate --run "):
        read_per_query(tmp_path / "per_query.jsonl")
    (tmp_path / "per_query.jsonl").write_text('{"query_id": "q"}\n')
    with pytest.raises(UserError, match="line 1: 'generated' is missing"):
        read_per_query(tmp_path / "per_query.jsonl")
