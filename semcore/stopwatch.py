"""Seconds that add up over the attempts of a job that is killed and started again."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from semcore.files import atomic_text

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

    def start(self) -> None:
        """Start from the seconds that an interrupted attempt noted."""
        self._earlier_s = _read_seconds(self._note)
        self._started = time.monotonic()
        threading.Thread(target=self._keep_noting, daemon=True).start()

    def stop(self) -> float:
        """Return all seconds and remove the note."""
        self._stopped.set()
        seconds = self.seconds()
        self._note.unlink(missing_ok=True)
        return seconds

    def seconds(self) -> float:
        """Return the seconds so far, earlier attempts included."""
        return self._earlier_s + (time.monotonic() - self._started if self._started else 0.0)

    def _keep_noting(self) -> None:
        while not self._stopped.wait(NOTE_EVERY_S):
            with atomic_text(self._note) as handle:
                handle.write(f"{self.seconds():.3f}")


def _read_seconds(note: Path) -> float:
    try:
        return float(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0
