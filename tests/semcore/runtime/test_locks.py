from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from semcore.runtime.errors import UserError
from semcore.runtime.locks import exclusive

HOLD = """
import sys, time
from pathlib import Path
from semcore.runtime.locks import exclusive
with exclusive(Path(sys.argv[1]), str):
    print("held", flush=True)
    time.sleep(60)
"""


def busy(holder: str) -> str:
    return f"held by {holder}"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    for _ in range(2):  # asking leaves the holder's id where it is
        with pytest.raises(UserError, match=f"^held by {holder.pid}$"), exclusive(tmp_path / "lock", busy):
            pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with exclusive(tmp_path / "lock", busy):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), exclusive(tmp_path / "lock", busy):
        raise KeyError
    with (
        exclusive(tmp_path / "lock", busy),
        pytest.raises(UserError, match=str(os.getpid())),
        exclusive(tmp_path / "lock", busy),
    ):
        pass


def test_the_holder_may_take_the_file_away(tmp_path: Path) -> None:
    """As where a finished folder gets its name."""
    with exclusive(tmp_path / "lock", busy):
        (tmp_path / "lock").unlink()
    with exclusive(tmp_path / "lock", busy):
        pass
