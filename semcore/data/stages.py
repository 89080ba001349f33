"""Stages of a run: their outputs, and whether one that is opened starts, is resumed, or is finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from semcore.data.stage_changes import changes, setting_changes, shown
from semcore.runtime.errors import UserError
from semcore.runtime.files import plain_data
from semcore.runtime.hardware import peak_memory_bytes
from semcore.runtime.ranks import is_main_process, num_processes
from semcore.runtime.stopwatch import Stopwatch

# The outputs of each stage: a stage whose outputs were deleted may start again with other settings.
STAGE_OUTPUTS = {
    "caption": ("captions.jsonl",),
    "identifiers": ("identifiers",),
    "train_identifier": ("identifier_model",),
    "train_ranking": ("ranked_model", "ranking"),
    "candidates": ("candidates",),
    "train_verifier": ("verifier_model",),
    "train_verifier_blocks": ("verifier_model_blocks",),
    "evaluate": ("t2i", "i2t", "metrics.json"),
}

Record = Callable[[str, dict[str, Any]], None]
"""Adds values to the manifest's entry of a stage, given its name."""


class Stage:
    """One stage of a run, from `RunFolder.open_stage`."""

    def __init__(self, run: Path, name: str, finished: bool, record: Record):
        self.name = name
        self.finished = finished
        self._run, self._record = run, record
        self._stopwatch = Stopwatch(run / f".{name}.seconds")

    def start(self, go_on: bool) -> None:
        """Start to count seconds, from where an interrupted attempt stopped or from 0."""
        self._stopwatch.start(go_on)

    def finish(self, **measured: Any) -> None:
        """Record the stage as finished, with what was measured.

        Args:
            measured: entries of the manifest such as "steps", "loss_first", "loss_last", "engine",
                "zero_stage"; a given "peak_memory_bytes" or "num_processes" replaces the default.
        """
        self.finished = True
        if not is_main_process():
            return
        values = {
            "seconds": round(self._stopwatch.stop(), 3),
            "peak_memory_bytes": peak_memory_bytes(),
            "num_processes": num_processes(),
            "engine": "none",
            **plain_data(measured),
            "outputs": existing_outputs(self._run, self.name),
            "finished": True,
        }
        self._record(self.name, values)


def existing_outputs(run: Path, name: str) -> list[str]:
    """Return which outputs of a stage exist in a run folder."""
    return [output for output in STAGE_OUTPUTS.get(name, ()) if (run / output).exists()]


def entry_of(run: Path, name: str, before: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest's entry for a stage that is opened.

    Args:
        run: the run folder.
        name: the stage's name.
        before: its present entry, if there is one.
        new: its entry with the new settings and inputs.

    Raises:
        UserError: the stage was started with other settings or inputs, and its outputs exist.
    """
    there = existing_outputs(run, name)
    if before is None or (STAGE_OUTPUTS.get(name) and not there):
        return new  # it wrote nothing, or its outputs were deleted to run it again
    way_out = "choose another --run"
    if there:
        way_out += f", or delete {' and '.join(str(run / output) for output in there)} to do it again"
    where = f"stage {name} of {run}"
    for key, old, now in setting_changes(before, new):
        if old == now:
            raise UserError(f"what lies at {key} {shown(now)} has changed since {where} was begun; {way_out}")
        raise UserError(f"{where} was begun with {key} {shown(old)}, not {shown(now)}; {way_out}")
    for key, _, _ in changes(before["inputs"], new["inputs"]):
        if "by_content" not in before:
            raise UserError(f"{where} is of an earlier version, which recorded less than is compared; {way_out}")
        raise UserError(f"{key} has changed since {where} was begun; {way_out}")
    return {**before, **new, "finished": before["finished"] and set(before["outputs"]) <= set(there)}
