"""Names of temporary files and folders, which say whose they are, and removal of what killed processes have left.

    .NAME.HOST-PROCESS-THREAD.tmp    HOST is a hash of the machine and of what numbers its processes

A process number means something on its own machine alone, and in its own container. So what another machine has
left, on a disk that is shared, stays where it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import threading
from functools import cache
from pathlib import Path

TEMPORARY, INCOMPLETE = ".tmp", ".incomplete"
"""Endings of temporary files, and of folders that are renamed when they are complete."""
NEVER_SEARCHED = {"images"}  # ours: a million pictures take seconds to look through, and are written elsewhere
_NAME = re.compile(r"\..*\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)-\d+\.(?:tmp|incomplete)", re.DOTALL)


def temporary_beside(path: Path, ending: str = TEMPORARY) -> Path:
    """Return a hidden path beside another one that no other process or thread uses."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{threading.get_ident()}{ending}")


def is_left_behind(name: str) -> bool:
    """Return whether a name is that of a temporary file or folder of a process of this machine that is gone."""
    match = _NAME.fullmatch(name)
    return match is not None and match["host"] == _host() and not _runs(int(match["process"]))


def remove_left_behind(folder: Path) -> None:
    """Remove, in a folder and the folders in it, what processes of this machine have left that are gone."""
    for place, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            if is_left_behind(name):
                remove(Path(place) / name)
        folders[:] = [name for name in folders if name not in NEVER_SEARCHED and not is_left_behind(name)]


def remove(path: Path) -> None:
    """Remove a file or folder, unless it cannot be, or is gone meanwhile."""
    with contextlib.suppress(OSError):
        path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)


@cache
def _host() -> str:
    numbers = Path("/proc/self/ns/pid")  # on Linux: the processes that share their numbers
    whose = os.readlink(numbers) if numbers.is_symlink() else ""
    return hashlib.sha256(f"{platform.node()} {whose}".encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True
