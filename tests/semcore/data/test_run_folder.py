from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError

SETTINGS = {"num_clusters": 8, "training": {"max_steps": 10}, "range": (1, 2)}
INPUTS = {"captions.jsonl": "aa", "prompts/caption.jinja": "bb"}

HOLD_THE_LOCK = """
import sys, time
from semcore.data.run_folder import RunFolder
with RunFolder(sys.argv[1]).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def open_identifiers(run: RunFolder, **changes: Any) -> Any:
    return run.open_stage("identifiers", {**SETTINGS, **changes}, INPUTS)


def test_naming_a_run_creates_nothing(run: RunFolder) -> None:
    assert run / "captions.jsonl" == run.path / "captions.jsonl"
    assert run.manifest() == {}
    assert not run.path.exists()


def test_the_manifest_says_what_the_contract_says(run: RunFolder, tiny_dataset: Path) -> None:
    stage = run.open_stage("identifiers", SETTINGS, INPUTS, tiny_dataset)
    assert not stage.finished
    (run / "identifiers").mkdir()
    run.set_prompts({"caption.jinja": "bb"})
    stage.finish(steps=3, loss_first=2.5)
    manifest = run.manifest()
    assert {"semcore", "git", "versions", "hardware", "prompts", "stages", "data"} <= set(manifest)
    assert {"python", "numpy", "pillow"} <= set(manifest["versions"])
    assert manifest["hardware"]["num_cores"] >= 1
    assert manifest["prompts"] == {"caption.jinja": "bb"}
    entry = manifest["stages"]["identifiers"]
    assert entry["settings"] == {"num_clusters": 8, "training": {"max_steps": 10}, "range": [1, 2]}
    assert entry["inputs"] == INPUTS
    assert (entry["steps"], entry["loss_first"], entry["num_processes"], entry["engine"]) == (3, 2.5, 1, "none")
    assert 0 <= entry["seconds"] < 60
    assert 10_000_000 < entry["peak_memory_bytes"] < 100_000_000_000
    assert run.data_folder() == tiny_dataset


def test_a_finished_stage_is_finished_the_second_time(run: RunFolder) -> None:
    stage = open_identifiers(run)
    (run / "identifiers").mkdir()
    assert not open_identifiers(run).finished
    stage.finish()
    assert open_identifiers(run).finished


def test_other_settings_are_refused_with_both_ways_out(run: RunFolder) -> None:
    stage = open_identifiers(run)
    (run / "identifiers").mkdir()
    for _ in ("interrupted", "finished"):
        with pytest.raises(UserError) as error:
            open_identifiers(run, training={"max_steps": 20})
        assert str(error.value) == (
            f"stage identifiers of {run.path} was begun with training.max_steps 10, not 20; "
            f"choose another --run, or delete {run.path}/identifiers to do it again"
        )
        stage.finish()


def test_a_changed_input_is_refused(run: RunFolder) -> None:
    open_identifiers(run)
    (run / "identifiers").mkdir()
    with pytest.raises(UserError) as error:
        run.open_stage("identifiers", SETTINGS, {**INPUTS, "prompts/caption.jinja": "cc"})
    assert str(error.value) == (
        f"prompts/caption.jinja has changed since stage identifiers of {run.path} was begun; "
        f"choose another --run, or delete {run.path}/identifiers to do it again"
    )


def test_a_stage_whose_outputs_were_deleted_begins_anew(run: RunFolder) -> None:
    stage = open_identifiers(run)
    (run / "identifiers").mkdir()
    stage.finish()
    (run / "identifiers").rmdir()
    again = open_identifiers(run, num_clusters=16)
    assert not again.finished
    assert run.manifest()["stages"]["identifiers"]["settings"]["num_clusters"] == 16


def test_a_finished_stage_that_lost_one_output_is_done_again(run: RunFolder) -> None:
    stage = run.open_stage("evaluate", {}, {})
    (run / "t2i").mkdir()
    (run / "metrics.json").touch()
    stage.finish()
    assert run.open_stage("evaluate", {}, {}).finished
    (run / "metrics.json").unlink()
    assert not run.open_stage("evaluate", {}, {}).finished


def test_a_dataset_that_moved_is_asked_for_and_then_recorded(run: RunFolder, tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match="holds no run yet"):
        run.data_folder()
    run.open_stage("caption", {}, {}, tiny_dataset)
    moved = tiny_dataset.rename(tiny_dataset.with_name("moved"))
    with pytest.raises(UserError) as error:
        run.data_folder()
    assert str(error.value) == f"the dataset of {run.path} is no longer at {tiny_dataset}; say where with --data DATA"
    run.open_stage("caption", {}, {}, moved)
    assert run.data_folder() == moved


def test_config_sections_are_merged(run: RunFolder) -> None:
    run.set_config("identifiers", {"num_clusters": 8, "range": (1, 2)})
    run.set_config("caption", {"batch_size": 2})
    run.set_config("identifiers", {"num_clusters": 16})
    document = yaml.safe_load((run / "config.yaml").read_text())
    assert document == {"identifiers": {"num_clusters": 16}, "caption": {"batch_size": 2}}


def test_other_processes_of_a_launcher_write_nothing(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with run.lock():
        stage = open_identifiers(run)
        run.set_prompts({"a": "b"})
        run.set_config("a", {})
        stage.finish()
    assert not run.path.exists()


def test_a_damaged_manifest_is_named(run: RunFolder) -> None:
    run.path.mkdir()
    (run / "manifest.json").write_text('{"stages": ')
    with pytest.raises(UserError, match=r"manifest\.json, line 1: not valid JSON"):
        run.manifest()


def test_the_lock_names_its_holder_and_dies_with_it(run: RunFolder) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(run.path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UserError) as error, run.lock():
            pass
        assert str(error.value) == (
            f"process {holder.pid} is working on {run.path}; wait until it is done, or choose another --run"
        )
        with run.lock("quickstart"):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with run.lock():
        pass


def test_seconds_add_up_over_interrupted_attempts(run: RunFolder) -> None:
    open_identifiers(run)
    (run / "identifiers").mkdir()
    (run / ".identifiers.seconds").write_text("100.0")  # what a killed attempt noted
    stage = open_identifiers(run)
    time.sleep(0.01)
    stage.finish()
    assert 100.01 <= run.manifest()["stages"]["identifiers"]["seconds"] < 160
    assert not (run / ".identifiers.seconds").exists()
