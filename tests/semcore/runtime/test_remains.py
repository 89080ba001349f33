"""Removal of files that killed processes have left, and of nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from semcore.data.run_folder import RunFolder
from semcore.runtime import remains
from semcore.runtime.atomic import new_folder
from semcore.runtime.files import atomic_text
from semcore.runtime.remains import INCOMPLETE, is_left_behind, remove_left_behind, temporary_beside

WRITER = """
import sys, time
from pathlib import Path
from semcore.runtime.atomic import new_folder
from semcore.runtime.files import atomic_path
place = Path(sys.argv[1])
with atomic_path(place / "deep" / "file.json") as path, new_folder(place / "model") as folder:
    path.write_text("{")
    (folder / "weights").write_text("")
    print("writing", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_what_a_killed_process_left_goes_once_it_is_gone(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        there = names(tmp_path)
        assert len(there) == 4 and there[0].endswith(".incomplete") and there[3].endswith(".tmp")
        with run.lock():
            assert names(tmp_path) == sorted([*there, ".lock"])
        process.send_signal(signal.SIGKILL)
    with run.lock("corpus"):
        assert set(there) <= set(names(tmp_path))
    with run.lock():
        assert names(tmp_path) == [".corpus.lock", ".lock", "deep"]


def test_a_folder_made_again_replaces_what_was_left_of_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    with new_folder(tmp_path / "model") as folder:
        (folder / "weights").touch()
    assert [path.name for path in tmp_path.iterdir() if path.name != "deep"] == ["model"]


def test_files_of_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(os, "getpid", lambda: ended.pid)
    gone = temporary_beside(tmp_path / "gone.json"), temporary_beside(tmp_path / "folder", INCOMPLETE)
    pictures = temporary_beside(tmp_path / "images" / "picture.png")
    monkeypatch.undo()
    monkeypatch.setattr(remains, "_host", lambda: "01234567")
    other = temporary_beside(tmp_path / "other.json")
    monkeypatch.undo()
    kept = [temporary_beside(tmp_path / "own.json"), tmp_path / ".x.1.tmp", tmp_path / ".hidden", other]
    for path in (gone[0], pictures, *kept):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (gone[1] / "deep").mkdir(parents=True)
    assert all(is_left_behind(path.name) for path in (*gone, pictures))
    assert not any(is_left_behind(path.name) for path in kept)
    remove_left_behind(tmp_path)
    assert set(tmp_path.rglob("*")) == {*kept, tmp_path / "images", pictures}


def test_two_writers_of_a_file_have_two_names(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_text(path) as handle:
        handle.write("one")
        [temporary] = tmp_path.iterdir()
        assert temporary == temporary_beside(path) and not is_left_behind(temporary.name)
    assert [own.name for own in tmp_path.iterdir()] == ["a.txt"]
