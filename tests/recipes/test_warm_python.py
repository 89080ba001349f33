"""The Python that forks does what a fresh one does: arguments, surroundings, output, exit codes, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recipes.warm_python import warm_python

pytestmark = pytest.mark.slow
SAYS = """
import os, sys
sys.stdout.reconfigure(errors="backslashreplace")
print(sys.argv, os.getcwd(), sys.path[0], os.environ["WORD"], sys.stdin.read(), __name__)
print("to stderr", file=sys.stderr)
sys.exit(7)
"""


@pytest.fixture
def outcome(tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Run a program's text under a Python, and return exit code, output and errors."""

    def run(python: object, code: str, *arguments: str) -> tuple[int, str, str]:
        (tmp_path / "program.py").write_text(code)
        done = subprocess.run(
            [str(python), "-u", str(tmp_path / "program.py"), *arguments], input="typed", capture_output=True,
            text=True, cwd=tmp_path, env={**os.environ, "WORD": "a word"}, timeout=300, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("code", [SAYS, "import os; os.kill(os.getpid(), 9)", "import os; os._exit(3)", ""])
def test_a_fork_is_like_a_process_of_its_own(outcome: Callable[..., tuple[int, str, str]], code: str) -> None:
    assert outcome(warm_python(), code, "a", "-b") == outcome(sys.executable, code, "a", "-b")


def test_what_goes_wrong_is_said_as_by_python(outcome: Callable[..., tuple[int, str, str]]) -> None:
    code, _, errors = outcome(warm_python(), "1 / 0")
    assert code == 1 and errors.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_fork_ends_with_who_asked_for_it(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "program.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)")
    with subprocess.Popen([warm_python(), tmp_path / "program.py"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        fork = int(process.stdout.readline())
        process.send_signal(how)
        assert process.wait(60) == -how
    end = time.monotonic() + 60
    while Path(f"/proc/{fork}").exists():
        assert time.monotonic() < end, "the fork goes on"
        time.sleep(0.05)
