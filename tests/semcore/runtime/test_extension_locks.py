"""A lock that a killed process has left is removed, and one that somebody holds is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from semcore.runtime import extension_locks
from semcore.runtime.extension_locks import remove_stale_locks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="who has a file open is looked for in /proc")
HOLDER = """
import sys, time
from torch.utils.file_baton import FileBaton
FileBaton(sys.argv[1]).try_acquire()
print("held", flush=True)
time.sleep(60)
"""


def hold(lock: Path) -> subprocess.Popen[str]:
    """Start a process that holds a lock as torch does."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def make_old(lock: Path) -> None:
    """Let the last change in a lock's folder be an hour ago."""
    for path in (*lock.parent.iterdir(), lock.parent):
        os.utime(path, (time.time() - 3600,) * 2)


def test_only_a_killed_process_s_lock_is_removed(tmp_path: Path) -> None:
    lock, said = tmp_path / "py_cpu" / "operation" / "lock", list[str]()
    with hold(lock) as process:
        make_old(lock)
        remove_stale_locks(tmp_path, said.append)
        assert lock.exists() and not said
        process.send_signal(signal.SIGKILL)
        process.wait()
        remove_stale_locks(tmp_path, said.append)
    assert not lock.exists()
    assert said == [f"removed {lock}: a killed process has left it, and whoever came later would wait for ever"]
    remove_stale_locks(tmp_path / "nothing", said.append)
    assert len(said) == 1


def test_a_lock_that_may_be_another_machine_s_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension_locks, "POLL_S", 0.01)
    monkeypatch.setattr(extension_locks, "STALE_S", 0.5)
    lock, said = tmp_path / "operation" / "lock", list[str]()
    lock.parent.mkdir()
    lock.touch()
    begun = time.monotonic()
    remove_stale_locks(tmp_path, said.append)
    assert not lock.exists() and time.monotonic() - begun >= 0.4
    assert said[0].startswith(f"{lock} is of a process that was killed, or of another machine's; it is removed when")
    assert len(said) == 2


def test_beside_one_who_removes_others_only_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension_locks, "POLL_S", 0.01)
    lock, said = tmp_path / "operation" / "lock", list[str]()
    lock.parent.mkdir()
    lock.touch()
    make_old(lock)
    waiting = threading.Thread(target=remove_stale_locks, args=(tmp_path, said.append), kwargs={"removes": False})
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive() and lock.exists()
    lock.unlink()
    waiting.join(10)
    assert not waiting.is_alive() and not said
