"""CPU seconds of a start: `semcore --help`, and `semcore search` from the shell to its hits.

    python -m benchmarks.startup --run runs/quickstart
    python -m benchmarks.startup --run runs/quickstart --earlier ../semcore-before --json startup.json

Each is a process of its own on one thread; what counts is the time it computes, as the system reports it when the
process has ended, which other work on the machine lengthens less than the time on the clock. The first start finds no
index in the run (RUN/index is removed), later ones find it. The runs of all rows alternate, and the median counts. The
peer of a command is the same one in another checkout, where one is given. The import of the model's class alone is what
no search can go below.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Row, lower_is_better, publish
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.run_folder import RunFolder
from semcore.retrieval.saved_index import FOLDER
from semcore.runtime.errors import UserError

HERE = Path(__file__).resolve().parent.parent
SEMCORE = ("-m", "semcore.commands.cli")
IMPORT = ("-c", "from transformers.models.internvl.modeling_internvl import InternVLForConditionalGeneration")
HELP, FIRST, LATER, FLOOR = "semcore --help", "search, first start", "search, later starts", "the model's class alone"


@dataclass
class Settings:
    """What is started."""

    run: Path
    """A trained run, which is searched; its saved indexes are removed."""
    query: str = "a small red circle above a blue star"
    """The sentence that is searched with."""
    earlier: Path | None = None
    """Another checkout, whose commands are the peer."""
    repeats: int = 5
    """Processes of each kind."""
    json: Path | None = None
    """Save the rows in this file."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "repeats")


def main(settings: Settings) -> None:
    """Start every command in turn, and compare."""
    if not (settings.run / "identifiers").is_dir():
        raise UserError(f"{settings.run} holds no identifiers to search; give a trained run with --run RUN")
    sides = {"ours": HERE} | ({} if settings.earlier is None else {"peer": settings.earlier.resolve()})
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(settings.repeats):
        for side, checkout in sides.items():
            for name, seconds in one_round(settings.run.absolute(), settings.query, checkout).items():
                taken.setdefault((name, side), []).append(seconds)
        taken.setdefault((FLOOR, "ours"), []).append(cpu_seconds(IMPORT, HERE))
    publish(rows(taken), settings.json, repeats=settings.repeats)


def one_round(run: Path, query: str, checkout: Path) -> dict[str, float]:
    """Return the CPU seconds of help, of a search without a saved index, and of one with it."""
    search = (*SEMCORE, "search", "--run", str(run), query)
    taken = {HELP: cpu_seconds((*SEMCORE, "--help"), checkout)}
    shutil.rmtree(RunFolder(run) / FOLDER, ignore_errors=True)
    for name in (FIRST, LATER):
        taken[name] = cpu_seconds(search, checkout)
    return taken


def cpu_seconds(arguments: Sequence[str], checkout: Path) -> float:
    """Return the seconds, user and system, that Python computes for these arguments, with the modules of a checkout.

    Raises:
        UserError: it fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise UserError(f"python {' '.join(arguments)} failed in {checkout}: {done.stderr.strip()[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def rows(taken: dict[tuple[str, str], list[float]]) -> list[Row]:
    """Return a row a command: medians of ours, and of the peer where it was started."""
    found = []
    for name in dict.fromkeys(name for name, _ in taken):
        own, other = taken[name, "ours"], taken.get((name, "peer"))
        peer = None if other is None else round(statistics.median(other), 3)
        note = f"{min(own):.2f} to {max(own):.2f}" + (f"; peer {min(other):.2f} to {max(other):.2f}" if other else "")
        found.append(lower_is_better(name, round(statistics.median(own), 3), peer, "CPU seconds", note))
    return found


if __name__ == "__main__":
    run_command(main, Settings)
