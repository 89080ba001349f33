"""A run that takes stages from another: links, and a manifest that says they are finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.study.linked_stages import finished, share_run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    run = RunFolder(tmp_path / "full")
    for stage, output in (("caption", "captions.jsonl"), ("identifiers", "identifiers/t2i.jsonl")):
        opened = run.open_stage(stage, {"of": stage}, {}, tmp_path)
        (run / output).parent.mkdir(exist_ok=True)
        (run / output).write_text(stage)
        opened.finish()
    (run / "features").mkdir()
    return run.path


def test_shared_stages_are_finished_and_others_are_not(source: Path, tmp_path: Path) -> None:
    share_run(source, tmp_path / "other", ("caption",))
    run = RunFolder(tmp_path / "other")
    assert (run / "captions.jsonl").read_text() == "caption"
    assert (run / "features").is_dir() and not (run / "identifiers").exists()
    assert finished(run.path, "caption") and not finished(run.path, "identifiers")
    assert run.data_folder() == tmp_path
    assert run.open_stage("caption", {"of": "caption"}, {}).finished
    with pytest.raises(UserError, match="was begun with of caption, not another"):
        run.open_stage("caption", {"of": "another"}, {})


def test_what_the_other_run_does_leaves_the_first_as_it_was(source: Path, tmp_path: Path) -> None:
    share_run(source, tmp_path / "other", ("caption",))
    before = RunFolder(source).manifest()
    RunFolder(tmp_path / "other").open_stage("identifiers", {"of": "other"}, {}).finish()
    assert RunFolder(source).manifest() == before
    assert (source / "identifiers" / "t2i.jsonl").read_text() == "identifiers"


def test_a_run_that_is_there_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    share_run(source, tmp_path / "other", ("caption",))
    RunFolder(tmp_path / "other").open_stage("identifiers", {"of": "other"}, {}).finish()
    share_run(source, tmp_path / "other", ("caption",))
    assert finished(tmp_path / "other", "identifiers")


def test_the_folder_of_a_study_can_be_moved(source: Path, tmp_path: Path) -> None:
    share_run(source, tmp_path / "other", ("caption",))
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert (moved / "other" / "captions.jsonl").read_text() == "caption"
