from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from semcore.runtime import subprocesses
from semcore.runtime.subprocesses import Step, run_step, step_environment

ROOT = Path(__file__).resolve().parents[3]


def python(code: str, *arguments: object) -> Step:
    return Step("a step", ["python", "-c", code, *map(str, arguments)])


def is_alive(process_id: int) -> bool:
    """Tell whether a process runs; one that has ended but is not yet collected does not."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(path: Path) -> str:
    for _ in range(600):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"{path} never came")


def test_returns_the_exit_code() -> None:
    assert run_step(python("pass"), step_environment()) == 0
    assert run_step(python("raise SystemExit(2)"), step_environment()) == 2
    assert run_step(python("import os; os.kill(os.getpid(), 9)"), step_environment()) == -9


def test_output_and_errors_are_the_users(capfd: pytest.CaptureFixture[str]) -> None:
    run_step(python("import sys; print('out'); print('err', file=sys.stderr)"), step_environment())
    assert capfd.readouterr() == ("out\n", "err\n")


def test_semcore_and_accelerate_are_those_of_this_python(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_step(Step("", ["semcore", "--version"]), {**os.environ, "PATH": "/nowhere"}) == 0
    assert "semcore 0." in capfd.readouterr().out
    program, *_, module, argument = subprocesses._executable(["accelerate", "launch"])
    assert (program, argument) == (sys.executable, "launch")
    assert find_spec(module)


def test_the_environment_keeps_deepspeed_and_finds_ninja(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    environment = step_environment(num_threads=1)
    assert "ACCELERATE_USE_CPU" not in environment
    assert environment["PATH"].startswith(str(Path(sys.executable).parent))
    assert environment["OMP_NUM_THREADS"] == "7", "what the user says wins"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert step_environment(num_threads=1)["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in step_environment()


def _hear_interrupts() -> None:
    """A shell starts its background jobs, and so perhaps these tests, deaf to SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_step_ends_with_the_process_that_started_it(tmp_path: Path, how: signal.Signals) -> None:
    note = tmp_path / "id"
    child = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    parent = (
        "from semcore.runtime.subprocesses import Step, run_step, step_environment\n"
        f"run_step(Step('', ['python', '-c', {child!r}]), step_environment())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], cwd=ROOT, stderr=subprocess.DEVNULL, preexec_fn=_hear_interrupts
    ) as process:
        child_id = int(wait_for(note))
        process.send_signal(how)
    for _ in range(100):
        if not is_alive(child_id):
            return
        time.sleep(0.1)
    os.kill(child_id, signal.SIGKILL)
    raise AssertionError("the step went on alone")
