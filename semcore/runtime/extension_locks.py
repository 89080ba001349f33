"""Locks that killed processes have left in the folder where torch compiles extensions, DeepSpeed's operations say.

Whoever loads an extension makes a file `lock` beside it, keeps that open, and removes it in the end; all others wait
for that, without a word and without an end (`torch.utils.file_baton`). The file is empty. So whose it is, only the
system knows: on Linux, which process has it open. One that nobody here has open is of a killed process, or of another
machine's where the disk is shared; that one changes files as long as it compiles.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

STALE_S = 180.0  # ours: a source of DeepSpeed's operations compiles in less, in some 80 s on crowded cores
POLL_S = 0.5


def remove_stale_locks(folder: Path, say: Callable[[str], object], *, removes: bool = True) -> None:
    """Remove the locks of processes that are gone; one that may be another machine's is waited for first.

    Args:
        folder: of extensions; each has a folder in it, or in one of its folders.
        say: is told, in a sentence, what is waited for and what is removed.
        removes: false for a process beside which another one removes them: it only waits until they are gone.
    """
    for lock in sorted(path for depth in ("*", "*/*") for path in folder.glob(f"{depth}/lock")):
        if _is_abandoned(lock) and _quiet_s(lock.parent) <= STALE_S:
            say(
                f"{lock} is of a process that was killed, or of another machine's; it is removed when nothing has "
                f"changed in its folder for {STALE_S:.0f} seconds"
            )
        while _is_abandoned(lock):
            if removes and _quiet_s(lock.parent) > STALE_S:
                lock.unlink(missing_ok=True)
                say(f"removed {lock}: a killed process has left it, and whoever came later would wait for ever")
            else:
                time.sleep(POLL_S)


def _is_abandoned(lock: Path) -> bool:
    """Return whether a lock is there and no process of this machine has it open; False where that cannot be known."""
    try:
        owner = lock.stat().st_uid
    except FileNotFoundError:
        return False
    if sys.platform != "linux" or os.getuid() not in (0, owner):
        return False
    place = str(lock.resolve())
    return all(opened != place for opened in _opened_files())


def _opened_files() -> Iterator[str]:
    """Yield the paths that the processes of this machine have open, as far as this user may know."""
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            for entry in os.listdir(folder):
                with suppress(OSError):  # it has been closed meanwhile
                    yield os.readlink(folder / entry)


def _quiet_s(folder: Path) -> float:
    """Return for how many seconds nothing has changed in a folder."""
    times = [folder.stat().st_mtime]
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # the lock, or what a compiler has made for a moment
            times.append(path.stat().st_mtime)
    return time.time() - max(times)
