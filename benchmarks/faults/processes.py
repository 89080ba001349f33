"""Commands in processes of their own that are killed with all they have started, at a moment that is drawn.

A command may be forked from this process instead of starting Python anew: it finds the libraries imported then, so
that a kill hits its work and not its imports, which are most of the seconds of a small stage. What a launcher starts is
forked from a process that serves all of them (`tests.recipes.warm_python`), and killed there.
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
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from tqdm import tqdm

from tests.recipes.warm_python import server_file, warm_python

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


class Server(NamedTuple):
    """A process that forks itself in place of starting Python: the executable that asks it, and its id."""

    program: Path
    pid: int


def warm_server() -> Server | None:
    """Return the server of launched commands, which is started by the first call; None where nothing can be forked."""
    program = warm_python()
    return Server(program, int(server_file(program).read_text())) if server_file(program).exists() else None


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
    server: Server | None = None,
) -> Ended:
    """Run Python with these arguments to its end, or kill it and all its descendants at a moment.

    Args:
        words: what stands behind `python`.
        environment: of the process.
        folder: whose files are watched.
        log: gets stdout and stderr.
        moment: when to kill; None lets it end.
        forked: fork it from this process.
        server: fork it, and what it launches, from this one.
    """
    begun, changes, peak = time.monotonic(), 0, used_bytes(folder)
    before = _state(folder)
    process = _fork(words, environment, log) if forked else _start(words, environment, log, server)
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
        kill_tree(process.pid, server)
    while process.poll() is None:
        time.sleep(POLL_S)
    seconds = time.monotonic() - begun
    return Ended(None if killed else process.poll(), log.read_text(errors="replace"), seconds, changes, peak)


def _start(words: Sequence[str], environment: Mapping[str, str], log: Path, server: Server | None) -> Started:
    python = str(server.program) if server else sys.executable
    environment = {**environment, "PYTHON_EXEC": python}  # a launcher's processes
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, *words], env=dict(environment), stdout=output, stderr=subprocess.STDOUT,
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
    tqdm.set_lock(threading.RLock())  # the one that forks share would stay with one that was killed as it held it
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


def kill_tree(pid: int, server: Server | None = None) -> None:
    """Kill a process and all its descendants, also those with a session of their own, and wait until they are gone.

    Args:
        pid: of the process.
        server: whose descendants are killed, too: there is one command at a time.
    """
    pids = [pid, *descendants(pid)]
    deadline = time.monotonic() + GONE_S
    while True:
        pids += descendants(server.pid) if server else []
        for own in pids:
            _kill(own)
        pids = [own for own in pids if own != pid and _runs(own)]
        if time.monotonic() > deadline or not pids:
            return
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
