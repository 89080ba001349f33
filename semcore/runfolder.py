"""The run folder: where the stages of one run meet, and what is known of each of them.

    RUN/config.yaml     the settings of every stage, by section
    RUN/manifest.json   versions, hardware, prompts, and what each stage took
    RUN/.lock           held while a command works on the run
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from semcore import __version__
from semcore.errors import UserError
from semcore.files import atomic_text, read_json, write_json, writing_to
from semcore.machine import describe_hardware, git_sha, library_versions, peak_memory_bytes
from semcore.processes import is_main_process, num_processes
from semcore.stopwatch import Stopwatch

# What each stage leaves: a stage whose outputs were deleted may begin anew with other settings.
STAGE_OUTPUTS = {
    "caption": ("captions.jsonl",),
    "identifiers": ("identifiers",),
    "train_identifier": ("identifier_model",),
    "candidates": ("candidates",),
    "train_verifier": ("verifier_model",),
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
        manifest = self.manifest()
        entry = manifest.setdefault("stages", {}).get(name)
        if entry is not None and not self._has_outputs(name, entry):
            entry = None
        if entry is not None:
            self._refuse_changes(name, "setting", entry.get("settings", {}), _plain(settings))
            self._refuse_changes(name, "input", entry.get("inputs", {}), inputs)
        else:
            entry = {"settings": _plain(settings), "inputs": dict(inputs), "seconds": 0.0, "finished": False}
        manifest["stages"][name] = entry
        if data is not None:
            manifest["data"] = str(Path(data).absolute())
        stage = Stage(self, name, bool(entry["finished"]))
        if is_main_process() and not stage.finished:
            self._write_manifest({**_surroundings(), **manifest, **_surroundings()})
            stage.start()
        elif is_main_process() and data is not None:
            self._write_manifest(manifest)
        return stage

    def _has_outputs(self, name: str, entry: dict[str, Any]) -> bool:
        """Tell whether a stage's record still stands for something on disk."""
        outputs = STAGE_OUTPUTS.get(name, ())
        there = [(self / output).exists() for output in outputs]
        return not outputs or (all(there) if entry["finished"] else any(there))

    def _refuse_changes(self, name: str, kind: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        for key in [*old, *(key for key in new if key not in old)]:
            before, now = old.get(key), new.get(key)
            if before == now:
                continue
            outputs = " and ".join(str(self / output) for output in STAGE_OUTPUTS.get(name, ()))
            way_out = "choose another --run" + (f", or delete {outputs} to do the stage again" if outputs else "")
            if kind == "input":
                raise UserError(f"{key} has changed since the stage {name} of {self.path} was begun; {way_out}")
            raise UserError(f"the stage {name} of {self.path} was begun with {key} {before!r}, not {now!r}; {way_out}")

    def manifest(self) -> dict[str, Any]:
        """Return the content of manifest.json; {} before the first stage."""
        path = self / "manifest.json"
        content = read_json(path) if path.exists() else {}
        if not isinstance(content, dict):
            raise UserError(f"{path} is not a manifest; choose another --run")
        return content

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
        document = (yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None) or {}
        document[section] = _plain(settings)
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
            raise UserError(f"{self.path} holds no run yet; begin with python -m data_prep.caption --run {self.path}")
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

    def start(self) -> None:
        """Start to count seconds, from where an interrupted attempt stopped."""
        self._stopwatch.start()

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
                **_plain(measured),
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


def _plain(value: Any) -> Any:
    """Return settings as they look after a round trip through JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
