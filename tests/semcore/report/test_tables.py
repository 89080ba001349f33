"""The numbers of the tables, counted by hand on the small run."""

from pathlib import Path

import pytest

from semcore.data.directions import Direction
from semcore.report.run_contents import RunContents, read_run
from semcore.report.tables import (
    OrderRow,
    findings,
    flat,
    order_note,
    order_rows,
    score_rows,
    split_note,
    stage_rows,
    unanswerable_note,
    verifier_note,
    verifier_rows,
)


@pytest.fixture
def run(run_folder: Path) -> RunContents:
    return read_run(run_folder)


def test_scores_of_one_direction(run: RunContents) -> None:
    table = score_rows(run.metrics, "t2i", run.per_query[Direction.T2I], seed=0)
    names = ["generated", "verified", "listwise alone", "ceiling", "without trie", "without verification"]
    assert [row.name for row in table] == names
    assert [row.scores["R@1"] for row in table] == [40.0, 40.0, 12.5, 80.0, 12.5, 40.0]
    assert [table[0].scores[f"R@{k}"] for k in (5, 10)] == [80.0, 100.0]
    assert [table[1].scores[f"R@{k}"] for k in (5, 10)] == [80.0, 80.0]
    assert all(row.meaning for row in table)


def test_intervals_belong_to_scores_with_rows_and_hold_them(run: RunContents) -> None:
    table = score_rows(run.metrics, "t2i", run.per_query[Direction.T2I], seed=0)
    for row in table[:2]:
        assert set(row.intervals) == {"R@1", "R@5", "R@10"}
        assert all(low <= row.scores[column] <= high for column, (low, high) in row.intervals.items())
        assert row.intervals["R@1"].low < 40.0 < row.intervals["R@1"].high
    assert not any(row.intervals for row in table[2:])


def test_what_metrics_do_not_say_has_no_row(run: RunContents) -> None:
    table = score_rows(run.metrics, "i2t", run.per_query[Direction.I2T], seed=0)
    assert [row.name for row in table] == ["generated", "verified"]
    assert verifier_rows(run.metrics, "i2t") == []
    names = ["listwise", "listwise alone", "blocks", "blocks alone", "likelihood"]
    assert [row.name for row in verifier_rows(run.metrics, "t2i")] == names


def test_verifiers_are_compared_with_the_order_they_were_given_and_with_the_chosen_one(run: RunContents) -> None:
    rows = {row.name: row.meaning for row in verifier_rows(run.metrics, "t2i")}
    assert rows["blocks"].endswith(
        "; R@1 +1.5 points (95 % interval -0.5 to +3.0) against the generated order; "
        "-1.0 points (95 % interval -2.0 to +0.2) against listwise, which was chosen on val"
    )
    assert rows["blocks alone"] == "R@1 -2.0 points (95 % interval -4.0 to +0.0) against the generated order"
    rows = {row.name: row.meaning for row in verifier_rows({**run.metrics, "fusion": "none"}, "t2i")}
    assert "chosen on val" in rows["blocks alone"] and "chosen on val" not in rows["blocks"]


def test_the_seconds_of_a_verifier_are_those_of_the_measured_split(run: RunContents) -> None:
    seconds = [row.scores.get("seconds") for row in verifier_rows(run.metrics, "t2i")]
    assert seconds == [12.5, None, 0.75, None, None]


def test_order_bias_is_a_row_a_model_and_number_of_shifts(run: RunContents) -> None:
    rows = order_rows(run.metrics, "t2i")
    assert rows[0] == OrderRow("trained", 1, 62.5, 12.5, 60.0, {"A": 75.0, "B": 50.0})
    assert [row.shifts for row in rows] == [1, 2]
    assert order_note(run.metrics, "t2i").startswith("20 queries with one right item among 2 candidates, each asked in")
    assert (order_rows(run.metrics, "i2t"), order_note(run.metrics, "i2t")) == ([], "")


def test_findings_say_what_verification_changed(run: RunContents) -> None:
    gain, alone, ceiling = findings(run.metrics, "t2i", run.per_query[Direction.T2I], seed=0)
    assert gain == "Verification moves R@1 from 40.0 to 40.0 (+0.0 points; p = 1.000 in a paired randomisation test)."
    assert "Alone" in alone and "R@1 12.5" in alone
    assert ceiling == "A reader that makes no mistake reaches R@1 80.0; this run stands at 50 % of it."
    (gain,) = findings(run.metrics, "i2t", run.per_query[Direction.I2T], seed=0)
    assert gain.startswith("Verification moves R@1 from 33.3 to 66.7 (+33.3 points; p = 1.000 in")
    assert gain.endswith("and closes 100 % of the distance to the generator's R@10.")


def test_where_the_verifier_decides_alone_there_is_no_second_row(run: RunContents) -> None:
    metrics = {**run.metrics, "fusion": "none"}
    rows = {row.name: row for row in score_rows(metrics, "t2i", run.per_query[Direction.T2I], seed=0)}
    assert "listwise alone" not in rows
    assert "alone" in rows["verified"].meaning
    assert len(findings(metrics, "t2i", run.per_query[Direction.T2I], seed=0)) == 2
    assert verifier_note(metrics) != verifier_note(run.metrics)


def test_fusion_is_said_to_be_no_part_of_the_paper(run: RunContents) -> None:
    rows = {row.name: row for row in score_rows(run.metrics, "t2i", run.per_query[Direction.T2I], seed=0)}
    assert "val" in rows["verified"].meaning and "paper" in rows["verified"].meaning
    assert "paper has no such sum" in verifier_note(run.metrics)


def test_rows_on_some_queries_say_on_how_many(run: RunContents) -> None:
    rows = {row.name: row for row in score_rows(run.metrics, "t2i", run.per_query[Direction.T2I], seed=0)}
    assert "5 queries" in rows["without trie"].meaning
    assert "queries drawn" not in rows["without verification"].meaning


def test_the_split_is_named_and_how_val_was_kept_apart(run: RunContents) -> None:
    assert split_note(run.metrics) == "test"
    assert "fifth" in split_note({"split": "val", "cross_fitted": True})


def test_queries_that_find_nothing_right_are_counted(run: RunContents) -> None:
    assert unanswerable_note(run.metrics, "t2i").startswith("2 of the queries")
    assert unanswerable_note(run.metrics, "i2t") == ""


def test_a_run_without_verification_has_no_finding(run: RunContents) -> None:
    metrics = {"t2i": {"generated": run.metrics["t2i"]["generated"]}}
    assert findings(metrics, "t2i", run.per_query[Direction.T2I], seed=0) == []
    assert [row.name for row in score_rows(metrics, "t2i", run.per_query[Direction.T2I], seed=0)] == ["generated"]


def test_stages_and_their_sum(run: RunContents) -> None:
    rows = stage_rows(run.manifest)
    assert [row.name for row in rows] == ["caption", "train_identifier", "evaluate", "all"]
    assert (rows[1].engine, rows[1].loss) == ("deepspeed, ZeRO-2", "3.500 → 0.250 in 1,200 steps")
    assert rows[2].peak_memory_bytes is None
    assert (rows[-1].seconds, rows[-1].peak_memory_bytes) == (200.0, 3 * 2**29)
    assert stage_rows({}) == []


def test_flat_names_nested_values() -> None:
    nested = {"lora": {"r": 8, "alpha": None}, "learning_rate": 2e-5, "empty": [], "off": False}
    assert flat(nested) == {"lora r": "8", "learning_rate": "2e-05", "off": "False"}
