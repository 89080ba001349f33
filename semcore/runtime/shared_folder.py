"""Check that all processes of a launcher share one run folder: otherwise they would wait for each other forever.

The handshake uses the folder itself, so it needs no network and no common clock. Each process writes a file with a
random word. Rank 0 answers the words of processes that repeat its own word, and the others wait until their word is
among the answered ones. Files that an earlier launch left behind get no answer.

    RUN/.greetings/0    {"word", "answered": [...]}
    RUN/.greetings/K    {"word", "repeats": the word of process 0}
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from pathlib import Path
from typing import Any

from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json
from semcore.runtime.ranks import num_processes, process_rank

PATIENCE_S = 60.0  # ours: the processes of a launcher start within seconds; cold disks make imports slow
POLL_S = 0.05


def confirm_one_folder(run: Path | None) -> None:
    """Run the handshake of a launcher's processes in the run folder; a single process needs none.

    Raises:
        UserError: a process does not see the files that another one writes.
    """
    if run is None or num_processes() == 1:
        return
    folder, rank, word = Path(run) / ".greetings", process_rank(), secrets.token_hex(8)
    there = Path(run).exists()
    deadline = time.monotonic() + PATIENCE_S
    try:
        unseen = _greet_all(folder, word, deadline) if rank == 0 else _greet_first(folder, rank, word, deadline)
    finally:
        _leave(folder, rank, keep_run=there)
    if unseen:
        raise UserError(
            f"process {', '.join(map(str, unseen))} of {num_processes()} does not see the {run} that process {rank} "
            f"sees, {PATIENCE_S:.0f} seconds long; give a --run on a disk that all machines share"
        )


def _greet_all(folder: Path, word: str, deadline: float) -> list[int]:
    """Answer the other ranks as they repeat the word, wait until they have left; return the ranks that never came."""
    waiting = set(range(1, num_processes()))
    answered: list[str] = []
    write_json(folder / "0", {"word": word, "answered": answered})
    while waiting and time.monotonic() < deadline:
        for rank in sorted(waiting):
            greeting = _read(folder / str(rank))
            if greeting.get("repeats") == word:
                waiting.remove(rank)
                answered.append(greeting["word"])
                write_json(folder / "0", {"word": word, "answered": answered})
        time.sleep(POLL_S)
    while not waiting and any(_read(folder / str(rank)) for rank in range(1, num_processes())):
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    return sorted(waiting)


def _greet_first(folder: Path, rank: int, word: str, deadline: float) -> list[int]:
    """Repeat rank 0's word until it answers; return [0] if it never does."""
    repeated = None
    while time.monotonic() < deadline:
        first = _read(folder / "0")
        if word in first.get("answered", []):
            return []
        if first and first.get("word") != repeated:
            repeated = first.get("word")
            write_json(folder / str(rank), {"word": word, "repeats": repeated})
        time.sleep(POLL_S)
    return [0]


def _read(path: Path) -> dict[str, Any]:
    """Return a greeting; {} where there is none, or it is being removed."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _leave(folder: Path, rank: int, *, keep_run: bool) -> None:
    """Remove this rank's greeting, and folders that are then empty."""
    with contextlib.suppress(OSError):
        (folder / str(rank)).unlink(missing_ok=True)
        folder.rmdir()
        if not keep_run:
            folder.parent.rmdir()
