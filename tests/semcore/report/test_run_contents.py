"""Contents of a run that a report needs: complete and consistent, or a sentence says what to type."""

from pathlib import Path

import pytest

from semcore.report import write_report
from semcore.report.run_contents import read_run
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from tests.semcore.report.small_run import change_json


def test_a_run_that_was_not_evaluated_is_told_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        write_report(tmp_path / "none")
    assert f"{tmp_path}/none/metrics.json" in str(error.value)
    assert f"`semcore evaluate --run {tmp_path}/none`" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_metrics_without_a_direction_are_refused(run_folder: Path) -> None:
    (run_folder / "metrics.json").write_text('{"protocol": "inductive"}')
    with pytest.raises(UserError, match="neither t2i nor i2t is in it"):
        read_run(run_folder)


def test_files_of_two_evaluations_are_not_mixed(run_folder: Path) -> None:
    lines = (run_folder / "t2i" / "per_query.jsonl").read_text().splitlines(keepends=True)
    (run_folder / "t2i" / "per_query.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match="come from different evaluations"):
        read_run(run_folder)


def test_scores_that_the_rows_do_not_have_are_refused(run_folder: Path) -> None:
    metrics = read_json(run_folder / "metrics.json")
    metrics["t2i"]["verified"]["R@1"] = 99.0
    change_json(run_folder / "metrics.json", t2i=metrics["t2i"])
    with pytest.raises(UserError, match="2 of 5 .*verified.* 99.0"):
        read_run(run_folder)


def test_a_dataset_that_has_moved_is_found_by_data(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert read_run(run_folder).dataset is None
    assert "say where with --data DATA" in read_run(run_folder).missing_dataset
    moved = read_run(run_folder, tmp_path / "elsewhere")
    assert moved.dataset is not None
    assert moved.missing_dataset == ""


def test_a_wrong_data_is_an_error_and_no_note(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no dataset folder"):
        read_run(run_folder, tmp_path / "nowhere")


def test_one_direction_is_enough(run_folder: Path) -> None:
    metrics = read_json(run_folder / "metrics.json")
    write_json(run_folder / "metrics.json", {"t2i": metrics["t2i"]})
    assert list(read_run(run_folder).per_query) == ["t2i"]
