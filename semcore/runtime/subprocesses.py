"""Pipeline commands as subprocesses, as a user would type them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

GRACE_S = 30.0  # time for a launcher to end its processes
_SET_DEATH_SIGNAL = 1  # Linux: prctl(PR_SET_PDEATHSIG, signal)
_MODULES = {"accelerate": "accelerate.commands.accelerate_cli", "semcore": "semcore.commands.cli"}


class Step(NamedTuple):
    """One command of a pipeline: its title, and its words as a user types them."""

    title: str
    command: list[str]


def run_step(step: Step, environment: Mapping[str, str]) -> int:
    """Run one command to its end; it never outlives this process.

    Returns:
        Its exit code; negative, the signal that ended it.
    """
    with start_step(step, environment) as process:
        try:
            return process.wait()
        except BaseException:
            stop_step(process)
            raise


def start_step(step: Step, environment: Mapping[str, str], output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start one command and do not wait for it; it never outlives this process.

    Args:
        step: the command.
        environment: of the command.
        output: receives its stdout and stderr; by default those of this process.
    """
    return subprocess.Popen(
        _executable(step.command), env=environment, start_new_session=True, preexec_fn=_end_with_parent,
        stdout=output, stderr=None if output is None else subprocess.STDOUT,
    )  # fmt: skip


def step_environment(num_threads: int | None = None) -> dict[str, str]:
    """Return this process's environment, completed for the commands of the pipeline.

    Args:
        num_threads: of each process, where several share the cores; None leaves it to the libraries.
    """
    environment = dict(os.environ)
    # An exported ACCELERATE_USE_CPU would silently replace DeepSpeed by DDP.
    environment.pop("ACCELERATE_USE_CPU", None)
    environment["PYTHONUNBUFFERED"] = "1"
    # DeepSpeed calls ninja by its name, also where the virtual environment is not activated.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    if num_threads is not None:
        environment.setdefault("OMP_NUM_THREADS", str(num_threads))
    return environment


def _executable(command: list[str]) -> list[str]:
    """Return the command with this process's Python, whichever environment is activated."""
    program, *arguments = command
    if program == "python":
        return [sys.executable, *arguments]
    return [sys.executable, "-m", _MODULES[program], *arguments]


def _end_with_parent() -> None:
    """Ask Linux to end this process when its parent is killed, so that no training is orphaned."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)


def stop_step(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started: on SIGTERM a launcher takes its processes with it."""
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
