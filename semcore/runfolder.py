"""The run folder: where the stages of one run meet, and what is known of each of them.

RUN/config.yaml     the settings of every stage, by section
RUN/manifest.json   versions, hardware, prompts, and what each stage took
RUN/.lock           held while a command works on the run
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from semcore import __version__
from semcore.configfile import read_yaml
from semcore.errors import UserError
from semcore.files import atomic_text, plain_data, read_json, write_json, writing_to
from semcore.machine import describe_hardware, git_sha, library_versions, peak_memory_bytes
from semcore.processes import is_main_process, num_processes
from semcore.stopwatch import Stopwatch
from semcore.typed_commands import data_command

# What each stage leaves: a stage whose outputs were deleted may begin anew with other settings.
STAGE_OUTPUTS = {
    "caption": ("captions.jsonl",),
    "identifiers": ("identifiers",),
    "train_identifier": ("identifier_model",),
    "candidates": ("candidates",),
    "train_verifier": ("verifier_model",),
    "train_verifier_blocks": ("verifier_model_blocks",),
    "evaluate": ("t2i", "i2t", "metrics.json"),
}


class RunFolder:
    """One run's folder; making the object creates nothing."""

    def __init__(self, path: Path | str):
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextmanager
    def lock(self, name: str = "") -> Iterator[None]:
        """Hold the run against a second process; the lock dies with the process that holds it.

        Only the main process of a launcher locks. A command that starts the stages as processes
        takes a lock of another `name`, since the stages take theirs.

        Raises:
            UserError: another process works on this run.
        """
        if not is_main_process():
            yield
            return
        with writing_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self / f".{name}.lock" if name else self / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _take_lock(handle, self.path)
            yield
        finally:
            os.close(handle)

    def open_stage(
        self,
        name: str,
        settings: dict[str, Any],
        inputs: dict[str, str],
        data: Path | None = None,
    ) -> Stage:
        """Begin a stage, go on with it, or find it finished.

        Args:
            name: "caption", "identifiers", ...
            settings: the stage's own settings, plain data.
            inputs: what it reads, name -> sha256 (or another fingerprint).
            data: the dataset folder, recorded for later stages.

        Raises:
            UserError: the stage was begun with other settings or inputs, and its outputs are there.
        """
        manifest = {"prompts": {}, "stages": {}, **self.manifest()}
        before = manifest["stages"].get(name)
        entry = self._entry(name, before, plain_data(settings), dict(inputs))
        manifest["stages"][name] = entry
        if data is not None:
            manifest["data"] = str(Path(data).absolute())
        stage = Stage(self, name, entry["finished"])
        if is_main_process():
            self._write_manifest(manifest if stage.finished else {**manifest, **_surroundings()})
        if is_main_process() and not stage.finished:
            go_on = before is not None and not before["finished"] and before["settings"] == entry["settings"]
            stage.start(go_on)
        return stage

    def _entry(
        self, name: str, before: dict[str, Any] | None, settings: dict[str, Any], inputs: dict[str, str]
    ) -> dict[str, Any]:
        """Return what the manifest is to say of a stage that is opened."""
        new = {"settings": settings, "inputs": inputs, "finished": False}
        outputs = STAGE_OUTPUTS.get(name, ())
        there = [output for output in outputs if (self / output).exists()]
        if before is None or (outputs and not there):
            return new  # it never came to write anything, or what it wrote was deleted to do it again
        way_out = "choose another --run"
        if there:
            way_out += f", or delete {' and '.join(str(self / output) for output in there)} to do it again"
        where = f"stage {name} of {self.path}"
        for key, old, now in _changes(before["settings"], settings):
            raise UserError(f"{where} was begun with {key} {_shown(old)}, not {_shown(now)}; {way_out}")
        for key, _, _ in _changes(before["inputs"], inputs):
            raise UserError(f"{key} has changed since {where} was begun; {way_out}")
        return {**before, "finished": before["finished"] and set(before["outputs"]) <= set(there)}

    def manifest(self) -> dict[str, Any]:
        """Return the content of manifest.json; {} before the first stage."""
        path = self / "manifest.json"
        return read_json(path) if path.exists() else {}

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        write_json(self / "manifest.json", manifest)

    def set_prompts(self, prompts: dict[str, str]) -> None:
        """Record the prompt files a stage has read, file -> sha256."""
        manifest = self.manifest()
        manifest["prompts"] = {**manifest.get("prompts", {}), **prompts}
        if is_main_process():
            self._write_manifest(manifest)

    def set_config(self, section: str, settings: dict[str, Any]) -> None:
        """Record a stage's settings as a section of config.yaml."""
        path = self / "config.yaml"
        document = (read_yaml(path) if path.exists() else None) or {}
        document[section] = plain_data(settings)
        if is_main_process():
            with atomic_text(path) as handle:
                yaml.safe_dump(document, handle, sort_keys=False, allow_unicode=True)

    def data_folder(self) -> Path:
        """Return the dataset folder that earlier stages worked on.

        Raises:
            UserError: no stage has run yet, or the folder is gone.
        """
        recorded = self.manifest().get("data")
        if recorded is None:
            begin = data_command("caption", "--data", "DATA", "--run", self.path, "--model", "CHECKPOINT")
            raise UserError(f"{self.path} holds no run yet; begin with `{begin}`")
        if not Path(recorded).is_dir():
            raise UserError(f"the dataset of {self.path} is no longer at {recorded}; say where with --data DATA")
        return Path(recorded)


class Stage:
    """One stage of a run, from `RunFolder.open_stage`."""

    def __init__(self, run: RunFolder, name: str, finished: bool):
        self.run = run
        self.name = name
        self.finished = finished
        self._stopwatch = Stopwatch(run / f".{name}.seconds")

    def start(self, go_on: bool) -> None:
        """Start to count seconds, from where an interrupted attempt stopped or from 0."""
        self._stopwatch.start(go_on)

    def finish(self, **measured: Any) -> None:
        """Record the stage as finished, with what was measured.

        Args:
            measured: entries of the manifest such as "steps", "loss_first", "loss_last", "engine",
                "zero_stage"; a given "peak_memory_bytes" or "num_processes" wins over our own.
        """
        self.finished = True
        if not is_main_process():
            return
        manifest = self.run.manifest()
        manifest["stages"][self.name].update(
            {
                "seconds": round(self._stopwatch.stop(), 3),
                "peak_memory_bytes": peak_memory_bytes(),
                "num_processes": num_processes(),
                "engine": "none",
                **plain_data(measured),
                "outputs": [output for output in STAGE_OUTPUTS.get(self.name, ()) if (self.run / output).exists()],
                "finished": True,
            }
        )
        self.run._write_manifest(manifest)


def _take_lock(handle: int, run: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
        raise UserError(
            f"process {holder} is working on {run}; wait until it is done, or choose another --run"
        ) from None
    os.truncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())


def _surroundings() -> dict[str, Any]:
    return {
        "semcore": __version__,
        "git": git_sha(),
        "versions": library_versions(),
        "hardware": describe_hardware(),
    }


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (dotted key, old value, new value) of what differs; a missing value is None."""
    flat_old, flat_new = _flat(old), _flat(new)
    pairs = [(key, flat_old.get(key), flat_new.get(key)) for key in {**flat_old, **flat_new}]
    return [(key, before, now) for key, before, now in pairs if before != now]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
