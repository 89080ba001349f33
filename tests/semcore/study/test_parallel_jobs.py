"""Commands side by side: in their order, with logs, and ended together where one fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from semcore.runtime.subprocesses import Step
from semcore.study.parallel_jobs import Job, StepFailed, run_jobs

APPEND = "import sys, time; time.sleep({wait}); open(sys.argv[1], 'a').write('{word}')"


def step(path: Path, word: str, wait: float = 0) -> Step:
    return Step(word, ["python", "-c", APPEND.format(word=word, wait=wait), str(path)])


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., list[str]]:
    def go(jobs: list[Job], most: int = 2) -> list[str]:
        said: list[str] = []
        run_jobs(jobs, most, os.environ, tmp_path / "logs", said.append)
        return said

    return go


def test_steps_of_a_job_and_jobs_that_wait_keep_their_order(run: Callable[..., list[str]], tmp_path: Path) -> None:
    path = tmp_path / "written"
    jobs = [
        Job("slow", lambda: [step(path, "a", 0.5), step(path, "b")]),
        Job("waits", lambda: [step(path, f"c{path.read_text()}")], after="slow"),
        Job("nothing left", list),
    ]
    said = run(jobs)
    assert path.read_text() == "abcab"  # the one that waits begins when the other is done
    assert [sentence.partition(" (")[0] for sentence in said if "waits" in sentence] == [
        "waits: cab", "waits is done, 3 of 3"
    ]  # fmt: skip


MEET = """
import os, sys, time
open(sys.argv[1], "w")
for _ in range(3000):
    if os.path.exists(sys.argv[2]):
        sys.exit()
    time.sleep(0.01)
sys.exit("the other never came")
"""


def test_jobs_run_side_by_side(run: Callable[..., list[str]], tmp_path: Path) -> None:
    def job(own: str, other: str) -> Job:
        return Job(own, lambda: [Step("", ["python", "-c", MEET, str(tmp_path / own), str(tmp_path / other)])])

    assert run([job("one", "other"), job("other", "one")])[-1].endswith("2 of 2")


def test_no_more_jobs_run_than_asked_for(run: Callable[..., list[str]], tmp_path: Path) -> None:
    code = "import os, sys, time; os.mkdir(sys.argv[1]); time.sleep(0.2); os.rmdir(sys.argv[1])"
    jobs = [
        Job(name, lambda: [Step("", ["python", "-c", code, str(tmp_path / "only one has it")])]) for name in ("1", "2")
    ]
    assert run(jobs, most=1)[-1].endswith("2 of 2")


def test_one_that_fails_ends_the_others(run: Callable[..., list[str]], tmp_path: Path) -> None:
    bad = Step("breaking", ["python", "-c", "import sys; print('what was wrong'); sys.exit(2)"])
    started = time.monotonic()
    with pytest.raises(StepFailed, match="bad, breaking: exit code 2, see .*bad.log") as failure:
        run([Job("long", lambda: [step(tmp_path / "never", "x", 60)]), Job("bad", lambda: [bad])])
    assert time.monotonic() - started < 40
    assert failure.value.log.read_text() == "what was wrong\n"
    assert not (tmp_path / "never").exists()
