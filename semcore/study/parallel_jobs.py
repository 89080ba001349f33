"""Parallel jobs, each a sequence of commands; none outlives this process."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semcore.runtime.files import writing_to
from semcore.runtime.subprocesses import Step, start_step, stop_step

POLL_S = 0.2


@dataclass(frozen=True)
class Job:
    """A sequence of commands.

    Attributes:
        name: unique; its log is LOGS/name.log.
        begin: called when the job starts; returns the remaining commands.
        after: the job that must be done before.
    """

    name: str
    begin: Callable[[], list[Step]]
    after: str | None = None


class StepFailed(Exception):
    """The failure of a command: the command, its exit code (negative: the signal), and the path of its output."""

    def __init__(self, job: str, step: Step, code: int, log: Path):
        super().__init__(f"{job}, {step.title}: exit code {code}, see {log}")
        self.code, self.log = code, log


class _Running:
    def __init__(self, job: Job, environment: Mapping[str, str], log: Path):
        self.job, self._environment, self._log = job, environment, log
        self._steps = job.begin()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def go_on(self, say: Callable[[str], None]) -> bool:
        """Poll the running command and start the next one; return False when all are done."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return True
            step, self._process = self._steps.pop(0), None
            if code:
                raise StepFailed(self.job.name, step, code, self._log)
            say(f"{self.job.name}: {step.title} ({time.monotonic() - self._started:.0f} s)")
        if not self._steps:
            return False
        self._started = time.monotonic()
        with self._log.open("ab") as output:
            self._process = start_step(self._steps[0], self._environment, output)
        return True

    def stop(self) -> None:
        if self._process is not None:
            stop_step(self._process)


def run_jobs(
    jobs: Sequence[Job], most: int, environment: Mapping[str, str], logs: Path, say: Callable[[str], None]
) -> None:
    """Run jobs in parallel, in their order.

    Args:
        jobs: the jobs; each follows the one that it depends on.
        most: number of jobs in parallel, at most.
        environment: environment of the commands.
        logs: folder of the commands' outputs.
        say: called with a sentence for every finished command and job.

    Raises:
        StepFailed: a command failed; the others were stopped.
        UserError: the folder of logs cannot be written.
    """
    with writing_to(logs):
        logs.mkdir(parents=True, exist_ok=True)
    waiting, running, done = list(jobs), list[_Running](), set[str]()
    try:
        while waiting or running:
            ready = [job for job in waiting if job.after is None or job.after in done]
            for job in ready[: most - len(running)]:
                waiting.remove(job)
                running.append(_Running(job, environment, logs / f"{job.name}.log"))
            for own in list(running):
                if not own.go_on(say):
                    running.remove(own)
                    done.add(own.job.name)
                    say(f"{own.job.name} is done, {len(done)} of {len(jobs)}")
            time.sleep(POLL_S)
    finally:
        for own in running:
            own.stop()
