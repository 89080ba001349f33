from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from semcore.runtime.garbage import uncollected


def test_no_garbage_is_collected_for_a_while() -> None:
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_error_brings_the_collector_back() -> None:
    with pytest.raises(ValueError, match="stop"), uncollected():
        raise ValueError("stop")
    assert gc.isenabled()


@pytest.mark.parametrize(("ending", "is_looked_at"), [("", True), ("end_uncollected(); end_uncollected()", False)])
def test_a_process_may_end_without_a_last_look(ending: str, is_looked_at: bool) -> None:
    code = (
        "import gc, sys\n"
        "from semcore.runtime.garbage import end_uncollected\n"
        "class Noisy:\n"
        "    def __del__(self): print('collected', flush=True)\n"
        "def make():\n"
        "    noisy = Noisy()\n"
        "    noisy.itself = noisy\n"
        "gc.disable()\n"
        f"make()\n{ending}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("collected" in done.stdout) == is_looked_at
