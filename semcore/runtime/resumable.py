"""Long work in chunks that outlive a kill, shared between the processes of a launcher.

A chunk's results are a file that appears whole. What is found on disk is not done again, so a
killed job goes on where it stopped; and since chunks do not depend on where that was, the result is
the same as uninterrupted.
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
    """The results in the order of the tasks, and the seconds they took, all processes and attempts together."""

    rows: list[Any]
    seconds: float


def work_folder(run: Path, stage: str, key: str) -> Path:
    """Return RUN/.<stage>/<key>, where the chunks of one job lie; those of jobs with another key are removed.

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
    """Remove RUN/.<stage> when the job is done; other processes of a launcher may still read it, then it stays."""
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
    """Do `work` on all tasks, chunk by chunk, each chunk once whatever is killed between.

    Args:
        folder: from `work_folder`.
        name: of this work, as file names begin.
        tasks: all tasks, in an order that does not change.
        size: tasks a chunk.
        work: takes the tasks of a chunk and returns one result a task, plain data for JSON.
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
    """Read a chunk, waiting for the process whose share it is."""
    while not path.exists():
        if num_processes() == 1:
            raise UserError(f"{path} has disappeared while it was needed; run the same command again")
        time.sleep(POLL_S)
    return json.loads(path.read_text(encoding="utf-8"))
