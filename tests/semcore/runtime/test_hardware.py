from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from semcore.runtime.hardware import git_sha, library_versions

ROOT = Path(__file__).resolve().parents[3]


def test_versions_are_those_of_the_installed_libraries() -> None:
    import numpy

    assert library_versions()["numpy"] == numpy.__version__


def test_the_sha_is_that_of_the_checkout_or_none() -> None:
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        assert git_sha() == (head.stdout.strip() or None)
    else:
        assert git_sha() is None


def test_peak_memory_sees_what_was_given_back_and_not_the_parent() -> None:
    code = (
        "from semcore.runtime.hardware import peak_memory_bytes as peak\n"
        "before = peak(); block = bytearray(80_000_000); del block\n"
        "print(before, peak())"
    )
    ballast = bytearray(200_000_000)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    before, after = map(int, done.stdout.split())
    assert len(ballast) > before
    assert after - before > 70_000_000
