"""Two runs on the same queries: differences counted by hand, and what cannot be compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from semcore.commands.cli import main
from semcore.commands.compare import compare_runs
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_jsonl, write_json, write_jsonl
from tests.semcore.report.small_run import change_json, write_run_folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """A run, and the same with one text query lost from rank 1 to nowhere before verification."""
    first = write_run_folder(tmp_path)
    second = tmp_path / "other"
    shutil.copytree(first, second)
    path = second / "t2i" / "per_query.jsonl"
    rows = [{**row, "rank_generated": None if row["query_id"] == "scene0-0" else row["rank_generated"]}
            for row in read_jsonl(path)]  # fmt: skip
    write_jsonl(path, rows)
    return first, second


def keep_direction(run: Path, direction: str) -> None:
    """Leave a run measured in one direction."""
    metrics = read_json(run / "metrics.json")
    metrics.pop("i2t" if direction == "t2i" else "t2i")
    write_json(run / "metrics.json", metrics)


def test_a_lost_query_is_its_share_of_the_recall(runs: tuple[Path, Path]) -> None:
    rows = {(row["direction"], row["ranking"], row["metric"]): row for row in compare_runs(*runs)}
    lost = rows["t2i", "generated", "R@1"]
    assert (lost["first"], lost["second"], lost["mean"]) == (40, 20, -20)
    assert lost["low"] <= -20 <= lost["high"] and lost["p_value"] > 0.5  # one of five queries says nothing
    assert all(row["mean"] == 0 for key, row in rows.items() if key[1] == "verified" or key[0] == "i2t")


def test_only_generated_rankings_are_compared_where_one_run_verified_nothing(runs: tuple[Path, Path]) -> None:
    metrics = read_json(runs[1] / "metrics.json")
    change_json(runs[1] / "metrics.json", **{d: {"generated": metrics[d]["generated"]} for d in ("t2i", "i2t")})
    assert {row["ranking"] for row in compare_runs(*runs)} == {"generated"}


def test_directions_are_compared_that_both_were_measured_in(runs: tuple[Path, Path]) -> None:
    keep_direction(runs[1], "t2i")
    assert {row["direction"] for row in compare_runs(*runs)} == {"t2i"}
    keep_direction(runs[0], "i2t")
    with pytest.raises(UserError, match="is measured i2t and .* t2i: .*--directions"):
        compare_runs(*runs)


def test_other_queries_cannot_be_compared(runs: tuple[Path, Path]) -> None:
    path = runs[1] / "i2t" / "per_query.jsonl"
    write_jsonl(path, list(read_jsonl(path))[:-1])
    with pytest.raises(UserError, match="different queries"):
        compare_runs(*runs)


def test_the_command_prints_the_table_and_writes_it(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change_json(runs[1] / "metrics.json", num_beams=9)
    saved = tmp_path / "comparison.json"
    monkeypatch.setattr("sys.argv", ["semcore", "compare", *map(str, runs), "--json", str(saved)])
    main()
    printed = capsys.readouterr().out
    assert "-20.0" in printed and "num_beams: 8 and 9" in printed
    assert len(read_json(saved)["rows"]) == 12
