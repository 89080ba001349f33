"""A Python that has imported what recipes need, and forks itself for every process of a launch.

A launch of two processes starts three interpreters, which spend most of their time on importing torch, transformers and
DeepSpeed, again and again. Here one process imports them once and waits on a socket; `warm_python()` is an executable
that takes Python's arguments, has that process fork, and ends as the fork ends. Launchers start it for their processes
too, by PYTHON_EXEC. So commands, environments, processes, signals and exit codes are real; imports are shared, and the
seed of Python's hashes. Interpreters that begin with nothing are launched by tests/semcore/commands/test_quickstart.py
and tests/test_printed_commands.py.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = (
    "accelerate.commands.accelerate_cli", "torch.distributed.run", "deepspeed", "peft", "transformers.trainer",
    "sentence_transformers", "data_prep.caption", "data_prep.identifiers", "recipes.train_identifier",
    "recipes.train_ranking", "recipes.evaluate",
)  # fmt: skip
MOST_BYTES = 200_000  # of a request: arguments and environment
Request = dict[str, Any]


@cache
def warm_python() -> Path:
    """Start the process that forks, which ends with this one, and return the executable.

    Python itself is returned where an import starts a thread, so that nothing can be forked: slower, and as good.
    """
    folder = Path(tempfile.mkdtemp(prefix="warm-"))  # a socket's path may have a hundred letters
    place, program = folder / "socket", folder / "python"
    words = [sys.executable, "-m", "tests.recipes.warm_python", "serve", str(place)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # pyarrow's allocator starts one otherwise
    server = subprocess.Popen(words, cwd=ROOT, env=environment, stdin=subprocess.PIPE, start_new_session=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" ask "{place}" "$@"\n')
    program.chmod(0o755)
    server_file(program).write_text(str(server.pid))
    while not place.exists():
        if server.poll() is not None:
            return Path(sys.executable)
        time.sleep(0.01)
    return program


def server_file(program: Path) -> Path:
    """Return the file beside the executable that has the id of the process that forks."""
    return program.with_name("server")


def ask(place: str, arguments: list[str]) -> None:
    """Have the server run Python's arguments in a fork with this process's surroundings, and end as it ends."""
    request = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(place)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _: connection.send(bytes([received])))
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        status = int(connection.recv(16) or 1)
    if status < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def serve(place: str) -> Request:
    """Fork for every request until stdin ends; return, in the fork, what it was asked for."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(place)
        listening.listen()
        for name in IMPORTED:
            importlib.import_module(name)
        assert len(os.listdir("/proc/self/task")) == 1, "an import has started a thread, which no fork takes along"
        gc.collect()
        gc.freeze()
        running: dict[int, tuple[socket.socket, int]] = {}  # by the descriptor of a fork's end: who asked, which fork
        while True:
            callers = dict(running.values())
            ready, _, _ = select.select([sys.stdin.buffer, listening, *callers, *running], [], [])
            if sys.stdin.buffer in ready:
                for fork in callers.values():
                    os.killpg(fork, signal.SIGKILL)
                shutil.rmtree(Path(place).parent)
                sys.exit()
            for connection in set(callers).intersection(ready):
                pass_on(connection, callers[connection])
            for ended in set(running).intersection(ready):
                connection, fork = running.pop(ended)
                answer(connection, os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]))
                os.close(ended)
            if listening in ready:
                connection, _ = listening.accept()
                content, descriptors, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
                if not (fork := os.fork()):
                    become(connection, descriptors, [listening, *callers], list(running))
                    return dict(json.loads(content))
                for descriptor in descriptors:
                    os.close(descriptor)
                running[os.pidfd_open(fork)] = connection, fork


def pass_on(connection: socket.socket, fork: int) -> None:
    """Pass a signal on to a fork; one whose caller is gone is killed."""
    received = connection.recv(1)
    with contextlib.suppress(ProcessLookupError):  # one that is not the first of its session yet is asked again
        (os.kill if received else os.killpg)(fork, received[0] if received else signal.SIGKILL)


def answer(connection: socket.socket, status: int) -> None:
    """Tell a caller, if it is still there, how its fork ended: the exit code, or the signal's number below zero."""
    with contextlib.suppress(BrokenPipeError):
        connection.send(str(status).encode())
    connection.close()


def become(own: socket.socket, descriptors: list[int], others: list[socket.socket], ends: list[int]) -> None:
    """Make a fork a process of its own: a session, the caller's standard streams, chance, nothing of the server's."""
    os.setsid()
    random.seed()
    sys.modules["numpy"].random.seed()
    sys.modules["tqdm"].tqdm.set_lock(threading.RLock())  # all forks' would stay with one that is killed as it holds it
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    for descriptor in (*descriptors, *ends):
        os.close(descriptor)
    for connection in (own, *others):
        connection.close()
    for number, name in enumerate(("stdin", "stdout", "stderr")):  # a pipe now, perhaps, where there was a file
        old = getattr(sys, name)
        new = os.fdopen(number, "w" if number else "r", encoding=old.encoding, errors=old.errors, closefd=False)
        new.reconfigure(write_through=number > 0)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def run(request: Request) -> None:
    """Do what Python does with such arguments: [-u] SCRIPT or [-u] -m MODULE, and what they take."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    words = [word for word in request["arguments"][:1] if word != "-u"] + request["arguments"][1:]
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], request["folder"]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        ask(sys.argv[2], sys.argv[3:])
    run(serve(sys.argv[2]))
