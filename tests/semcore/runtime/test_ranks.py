"""The end of a launched process."""

from __future__ import annotations

import os
import subprocess
import sys

ABORTS_AT_EXIT = '''
import atexit, os, sys
from dataclasses import dataclass
from semcore.commands.arguments import run_command

@dataclass
class Settings:
    """Nothing."""

atexit.register(os.abort)  # as a thread of a process group does, once in some fifteen launches
run_command(lambda settings: sys.stdout.write("all of it"), Settings, arguments=[])
'''


def run_with(num_processes: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WORLD_SIZE": str(num_processes)}
    program = [sys.executable, "-c", ABORTS_AT_EXIT]
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=False)


def test_what_aborts_the_exit_fails_no_launch() -> None:
    launched = run_with(2)
    assert (launched.returncode, launched.stdout) == (0, "all of it")
    assert run_with(1).returncode != 0, "an exit that nothing aborts proves nothing"
