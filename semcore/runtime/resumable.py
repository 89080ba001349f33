"""Resumable work in chunks that are written to disk, shared between the processes of a launcher.

Each chunk's results are one file, written atomically. Chunks found on disk are not computed again, so a
killed job continues where it stopped; and since chunks do not depend on where that was, the result is
that of an uninterrupted job.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from tqdm import tqdm

from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text
from semcore.runtime.ranks import num_processes, process_rank

T = TypeVar("T")
POLL_S = 0.1


class RunStep(Protocol):
    """Runs a step of a job: one task after another, or in chunks that outlive a kill."""

    def __call__(
        self, name: str, tasks: Sequence[T], size: int, work: Callable[[list[T]], list[Any]], unit: str
    ) -> list[Any]:
        """Return one result a task; the arguments are those of `in_chunks`."""


def run_at_once(name: str, tasks: Sequence[T], size: int, work: Callable[[list[T]], list[Any]], unit: str) -> list[Any]:
    """Do a step's work on all tasks together; nothing is kept."""
    return work(list(tasks))


class ChunkedResult(NamedTuple):
    """Results in the order of the tasks, and their seconds, summed over all processes and attempts."""

    rows: list[Any]
    seconds: float


def work_folder(run: Path, stage: str, key: str) -> Path:
    """Return RUN/.<stage>/<key>, the folder of one job's chunks; those of jobs with another key are removed.

    Args:
        run: the run folder.
        stage: the job's name.
        key: a hash of everything the results depend on.
    """
    parent = run / f".{stage}"
    if process_rank() == 0 and parent.is_dir():
        for other in parent.iterdir():
            if other.name != key:
                shutil.rmtree(other, ignore_errors=True)
    return parent / key


def remove_work_folder(run: Path, stage: str) -> None:
    """Remove RUN/.<stage> when the job is done, unless other processes of the launcher may still read it."""
    if num_processes() == 1:
        shutil.rmtree(run / f".{stage}", ignore_errors=True)


def in_chunks(
    folder: Path,
    name: str,
    tasks: Sequence[T],
    size: int,
    work: Callable[[list[T]], list[Any]],
    *,
    progress: bool = False,
    unit: str = "query",
) -> ChunkedResult:
    """Map `work` over tasks in chunks; finished chunks are reloaded after an interruption.

    Args:
        folder: from `work_folder`.
        name: name of this work, the prefix of its file names.
        tasks: all tasks, in an order that is the same in every attempt.
        size: tasks per chunk.
        work: takes the tasks of a chunk and returns one result per task, plain data for JSON.
        progress: show a progress bar, named `name`.
        unit: what the progress bar counts.
    """
    starts = range(0, len(tasks), size)
    paths = [folder / f"{name}-{number:05d}.json" for number in range(len(starts))]
    own = range(process_rank(), len(starts), num_processes())
    total = sum(min(size, len(tasks) - starts[number]) for number in own)
    with tqdm(total=total, desc=name, unit=unit, disable=not progress) as bar:
        for number in own:
            chunk = list(tasks[starts[number] : starts[number] + size])
            if not paths[number].exists():
                _do_chunk(paths[number], chunk, work)
            bar.update(len(chunk))
    chunks = [_read_chunk(path) for path in paths]
    return ChunkedResult([row for chunk in chunks for row in chunk["rows"]], sum(chunk["seconds"] for chunk in chunks))


def _do_chunk(path: Path, chunk: list[T], work: Callable[[list[T]], list[Any]]) -> None:
    started = time.monotonic()
    rows = work(chunk)
    if len(rows) != len(chunk):
        raise ValueError(f"{len(rows)} results for {len(chunk)} tasks in {path.name}")
    with atomic_text(path) as handle:
        json.dump({"seconds": time.monotonic() - started, "rows": rows}, handle, ensure_ascii=False)


def _read_chunk(path: Path) -> dict[str, Any]:
    """Read a chunk, waiting for the process that computes it."""
    while not path.exists():
        if num_processes() == 1:
            raise UserError(f"{path} has disappeared while it was needed; run the same command again")
        time.sleep(POLL_S)
    return json.loads(path.read_text(encoding="utf-8"))
