"""Processes of a launcher that do not share a run folder fail with a sentence; those that do leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from semcore.runtime import shared_folder
from semcore.runtime.errors import UserError
from semcore.runtime.shared_folder import confirm_one_folder

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import sys
from dataclasses import dataclass
from pathlib import Path
from semcore.runtime import shared_folder
from semcore.commands.arguments import run_command

shared_folder.PATIENCE_S = float(sys.argv[2])

@dataclass
class Settings:
    run: Path
    config: Path | None = None

run_command(lambda settings: print("works"), Settings, "caption", arguments=["--run", sys.argv[1]])
"""


def outcomes(*runs: Path, patience: float = 20.0) -> list[tuple[int, str, str]]:
    """Start one process for each folder, and return exit codes, outputs and errors."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(run), str(patience)],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(len(runs)), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank, run in enumerate(runs)
    ]  # fmt: skip
    return [(process.returncode, out, err) for process in processes for out, err in [process.communicate(timeout=300)]]


def test_processes_of_one_folder_go_on_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "run" / ".greetings").mkdir(parents=True)  # what a killed launch left
    (tmp_path / "run" / ".greetings" / "0").write_text('{"word": "old", "answered": ["older"]}')
    (tmp_path / "run" / ".greetings" / "1").write_text('{"word": "older", "repeats": "old"}')
    assert outcomes(*[tmp_path / "run"] * 3) == [(0, "works\n", "")] * 3
    assert list((tmp_path / "run").iterdir()) == []


def test_processes_of_two_folders_say_so_within_seconds(tmp_path: Path) -> None:
    began = time.monotonic()
    first, second = outcomes(tmp_path / "here", tmp_path / "there", patience=2.0)
    assert time.monotonic() - began < shared_folder.PATIENCE_S
    assert (first[0], first[1]) == (2, "")
    assert first[2].count("\n") == 1
    for word in ("process 1 of 2", str(tmp_path / "here"), "--run"):
        assert word in first[2]
    assert second == (2, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_process_alone_greets_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    confirm_one_folder(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_is_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_folder, "PATIENCE_S", 0.2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError, match="process 0 of 2"):
        confirm_one_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []
