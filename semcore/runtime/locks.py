"""Locks between processes: only one at a time works on a folder, and a killed one holds no lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from semcore.runtime.errors import UserError
from semcore.runtime.files import writing_to


@contextmanager
def exclusive(path: Path, busy: Callable[[str], str]) -> Iterator[None]:
    """Hold a lock file against every other process; the lock dies with the process that holds it.

    Args:
        path: the lock file, which is made and stays; it contains the id of the process that holds it.
        busy: returns the error sentence for a lock that another process holds, from that process's id.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    lock = FileLock(path, timeout=0)
    try:
        with writing_to(path):
            lock.acquire()
            path.write_text(str(os.getpid()))
    except Timeout:
        holder = path.read_text().strip() if path.exists() else ""
        raise UserError(busy(holder or "unknown")) from None
    try:
        yield
    finally:
        lock.release()
