"""Commands in processes of their own that are killed with all they have started, at a moment that is drawn.

A command may be forked from this process instead of starting Python anew: it finds the libraries imported then, so
that a kill hits its work and not its imports, which are most of the seconds of a small stage.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import multiprocessing
import os
import random
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

POLL_S = 0.004
GONE_S = 30.0
NEVER_S = 900.0
"""No command of the matrix takes so long: it hangs."""


class Moment(NamedTuple):
    """When a command is killed: some seconds after its start, or after some changes of files; None for neither."""

    seconds: float | None = None
    changes: int | None = None


class Ended(NamedTuple):
    """An ended command: its exit code (None if it was killed), output, seconds, changes of files, most bytes."""

    code: int | None
    output: str
    seconds: float
    changes: int
    peak_bytes: int


def draw_moment(rng: random.Random, whole: Ended) -> Moment:
    """Draw a moment of the uninterrupted run: at any time, or, as often, just when files have changed.

    Most of a small stage's time is its start, in which nothing is written; the second kind hits the writing.
    """
    if rng.random() < 0.5 or whole.changes == 0:
        return Moment(seconds=rng.uniform(0, whole.seconds))
    return Moment(changes=rng.randint(1, whole.changes))


class Started(NamedTuple):
    """A process: its id, and a function that returns its exit code, None as long as it runs."""

    pid: int
    poll: Callable[[], int | None]


def import_all(modules: Iterable[str]) -> None:
    """Import what forked commands need, and keep it away from their garbage collectors."""
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def run(
    words: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    moment: Moment | None = None,
    *,
    forked: bool = False,
) -> Ended:
    """Run Python with these arguments to its end, or kill it and all its descendants at a moment.

    Args:
        words: what stands behind `python`.
        environment: of the process.
        folder: whose files are watched.
        log: gets stdout and stderr.
        moment: when to kill; None lets it end.
        forked: fork it from this process.
    """
    begun, changes, peak = time.monotonic(), 0, used_bytes(folder)
    before = _state(folder)
    process = _fork(words, environment, log) if forked else _start(words, environment, log)
    try:
        while process.poll() is None:
            now = _state(folder)
            changes += now != before
            before, peak = now, max(peak, used_bytes(folder))
            if _has_come(moment, time.monotonic() - begun, changes):
                break
            time.sleep(POLL_S)
    finally:
        killed = process.poll() is None
        kill_tree(process.pid)
    while process.poll() is None:
        time.sleep(POLL_S)
    seconds = time.monotonic() - begun
    return Ended(None if killed else process.poll(), log.read_text(errors="replace"), seconds, changes, peak)


def _start(words: Sequence[str], environment: Mapping[str, str], log: Path) -> Started:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *words], env=dict(environment), stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    return Started(process.pid, process.poll)


def _fork(words: Sequence[str], environment: Mapping[str, str], log: Path) -> Started:
    process = multiprocessing.get_context("fork").Process(target=_become, args=(words, environment, log))
    process.start()
    return Started(int(process.pid or 0), lambda: process.exitcode)


def _become(words: Sequence[str], environment: Mapping[str, str], log: Path) -> NoReturn:
    """Do in this process what `python WORDS` does, and end it."""
    os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(number, "wb"), line_buffering=True) for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        if words[0] == "-m":
            sys.argv = list(words[1:])
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(words)
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if isinstance(leaving.code, str):
            sys.stderr.write(f"{leaving.code}\n")
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _has_come(moment: Moment | None, seconds: float, changes: int) -> bool:
    if moment is None:
        return seconds > NEVER_S
    return seconds >= (moment.seconds or NEVER_S) if moment.changes is None else changes >= moment.changes


def used_bytes(folder: Path) -> int:
    """Return how many bytes of a folder's disk are in use."""
    disk = os.statvfs(folder)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return path -> (time of change, bytes) of all files."""
    state = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            state[path] = (status.st_mtime_ns, status.st_size)
    return state


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants, also those with a session of their own, and wait until they are gone."""
    pids = [pid, *descendants(pid)]
    for own in pids:
        _kill(own)
    deadline = time.monotonic() + GONE_S
    while time.monotonic() < deadline and any(_runs(own) for own in pids[1:]):
        time.sleep(POLL_S)


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes that a process has started, and those have, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (parent := _parent(int(entry))) is not None:
            children.setdefault(parent, []).append(int(entry))
    found, waiting = [], [pid]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += own
    return found


def _stat(pid: int) -> list[str] | None:
    """Return state, parent and more of /proc/PID/stat; None where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _runs(pid: int) -> bool:
    fields = _stat(pid)
    return fields is not None and fields[0] not in "ZX"


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
