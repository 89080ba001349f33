"""Locks between processes: only one at a time works on a folder, and one that was killed holds nothing."""

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
        path: the lock file, which is made and stays; the id of the process that holds it stands in it.
        busy: makes the sentence that is said where another process holds it, from that process's id.

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
