from __future__ import annotations

import time
from pathlib import Path

import pytest

from semcore.runtime import stopwatch
from semcore.runtime.stopwatch import Stopwatch


def test_a_kill_loses_no_more_than_the_last_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "NOTE_EVERY_S", 0.01)
    note = tmp_path / "seconds"
    killed = Stopwatch(note)
    killed.start(go_on=False)
    while not note.exists():
        time.sleep(0.005)
    time.sleep(0.05)
    after = Stopwatch(note)
    after.start(go_on=True)
    assert after.seconds() >= 0.01
    fresh = Stopwatch(tmp_path / "other")
    fresh.start(go_on=True)
    assert fresh.seconds() < after.seconds() + 5
    for watch in (killed, after, fresh):
        watch.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_attempt_forgets_the_note(tmp_path: Path) -> None:
    note = tmp_path / "seconds"
    note.write_text("100")
    watch = Stopwatch(note)
    watch.start(go_on=False)
    assert watch.stop() < 60
