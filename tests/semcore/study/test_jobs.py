"""Commands side by side: in their order, with logs, and ended together where one fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from semcore.steps import Step
from semcore.study.jobs import Job, StepFailed, run_jobs

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


def test_jobs_run_side_by_side_but_not_more_than_asked_for(run: Callable[..., list[str]], tmp_path: Path) -> None:
    code = "import pathlib, time; p = pathlib.Path({own!r}); p.touch(); time.sleep(1); {check}; p.unlink()"
    seen = tmp_path / "seen"
    check = f"open({str(seen)!r}, 'a').write(str(len(list(pathlib.Path({str(tmp_path)!r}).glob('on*')))))"

    def job(name: str) -> Job:
        return Job(
            name, lambda: [Step("", ["python", "-c", code.format(own=str(tmp_path / f"on{name}"), check=check)])]
        )

    run([job("1"), job("2"), job("3")], most=1)
    assert set(seen.read_text()) == {"1"}


def test_one_that_fails_ends_the_others(run: Callable[..., list[str]], tmp_path: Path) -> None:
    bad = Step("breaking", ["python", "-c", "import sys; print('what was wrong'); sys.exit(2)"])
    started = time.monotonic()
    with pytest.raises(StepFailed, match="bad, breaking: exit code 2, see .*bad.log") as failure:
        run([Job("long", lambda: [step(tmp_path / "never", "x", 60)]), Job("bad", lambda: [bad])])
    assert time.monotonic() - started < 40
    assert failure.value.log.read_text() == "what was wrong\n"
    assert not (tmp_path / "never").exists()
