"""Seconds that add up over the attempts of a job that is killed and started again."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text

NOTE_EVERY_S = 5.0


class Stopwatch:
    """Count seconds and note them in a file every few seconds, so that a kill loses no more.

    Args:
        note: the file; it is gone once the stopwatch is stopped.
    """

    def __init__(self, note: Path):
        self._note = note
        self._earlier_s = 0.0
        self._started = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep_noting, daemon=True)

    def start(self, go_on: bool) -> None:
        """Start from the seconds that an interrupted attempt noted, or from 0."""
        self._earlier_s = _read_seconds(self._note) if go_on else 0.0
        self._started = time.monotonic()
        self._thread.start()

    def stop(self) -> float:
        """Return all seconds and remove the note."""
        seconds = self.seconds()
        self._stopped.set()
        if self._started:
            self._thread.join()
        self._note.unlink(missing_ok=True)
        return seconds

    def seconds(self) -> float:
        """Return the seconds so far, earlier attempts included."""
        return self._earlier_s + (time.monotonic() - self._started if self._started else 0.0)

    def _keep_noting(self) -> None:
        while not self._stopped.wait(NOTE_EVERY_S):
            with suppress(UserError):  # a full disk is the job's to report, where it writes its own files
                _write_seconds(self._note, self.seconds())


def _write_seconds(note: Path, seconds: float) -> None:
    with atomic_text(note) as handle:
        handle.write(f"{seconds:.3f}")


def _read_seconds(note: Path) -> float:
    try:
        return float(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0
