"""Run folder: the stages of one run and the record of each.

RUN/config.yaml     the settings of every stage, by section
RUN/manifest.json   versions, hardware, prompts, and each stage's time and memory
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
from semcore.data.stage_changes import changes, from_the_root, setting_changes, shown
from semcore.runtime.config_file import read_yaml
from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text, plain_data, read_json, sha256_of, write_json, writing_to
from semcore.runtime.hardware import describe_hardware, git_sha, library_versions, peak_memory_bytes
from semcore.runtime.ranks import is_main_process, num_processes
from semcore.runtime.stopwatch import Stopwatch
from semcore.runtime.typed_commands import data_command
from semcore.runtime.yaml_values import Dumper

# The outputs of each stage: a stage whose outputs were deleted may start again with other settings.
STAGE_OUTPUTS = {
    "caption": ("captions.jsonl",),
    "identifiers": ("identifiers",),
    "train_identifier": ("identifier_model",),
    "candidates": ("candidates",),
    "train_verifier": ("verifier_model",),
    "train_verifier_blocks": ("verifier_model_blocks",),
    "evaluate": ("t2i", "i2t", "metrics.json"),
}


METADATA = "metadata.jsonl"  # of a dataset folder


class RunFolder:
    """One run's folder; making the object creates nothing."""

    def __init__(self, path: Path | str):
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextmanager
    def lock(self, name: str = "") -> Iterator[None]:
        """Lock the run against a second process; the lock ends with the process that holds it.

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
        by_content: dict[str, str] | None = None,
    ) -> Stage:
        """Start a stage, resume it, or find it finished.

        Args:
            name: "caption", "identifiers", ...
            settings: the stage's own settings, plain data.
            inputs: its inputs, name -> sha256 (or another fingerprint).
            data: the dataset folder, recorded for later stages.
            by_content: dotted name of a setting that is a path -> fingerprint of the content there. Only the content
                is compared, since it may have moved. The path is recorded as an absolute one.

        Raises:
            UserError: the stage was started with other settings or inputs, and its outputs exist.
        """
        manifest = {"prompts": {}, "stages": {}, **self.manifest()}
        before = manifest["stages"].get(name)
        new = {
            "settings": from_the_root(plain_data(settings), by_content or {}),
            "inputs": dict(inputs),
            "by_content": dict(by_content or {}),
            "run": str(self.path.absolute()),
            "finished": False,
        }
        entry = self._entry(name, before, new)
        manifest["stages"][name] = entry
        if data is not None:
            manifest |= self._data_places(Path(data))
        stage = Stage(self, name, entry["finished"])
        if is_main_process():
            self._write_manifest(manifest if stage.finished else {**manifest, **_surroundings()})
        if is_main_process() and not stage.finished:
            go_on = before is not None and not before["finished"] and not setting_changes(before, entry)
            stage.start(go_on)
        return stage

    def _entry(self, name: str, before: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
        """Return the manifest's entry for a stage that is opened."""
        outputs = STAGE_OUTPUTS.get(name, ())
        there = [output for output in outputs if (self / output).exists()]
        if before is None or (outputs and not there):
            return new  # it wrote nothing, or its outputs were deleted to run it again
        way_out = "choose another --run"
        if there:
            way_out += f", or delete {' and '.join(str(self / output) for output in there)} to do it again"
        where = f"stage {name} of {self.path}"
        for key, old, now in setting_changes(before, new):
            if old == now:
                raise UserError(f"what lies at {key} {shown(now)} has changed since {where} was begun; {way_out}")
            raise UserError(f"{where} was begun with {key} {shown(old)}, not {shown(now)}; {way_out}")
        for key, _, _ in changes(before["inputs"], new["inputs"]):
            if "by_content" not in before:
                raise UserError(f"{where} is of an earlier version, which recorded less than is compared; {way_out}")
            raise UserError(f"{key} has changed since {where} was begun; {way_out}")
        return {**before, **new, "finished": before["finished"] and set(before["outputs"]) <= set(there)}

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
                yaml.dump(document, handle, Dumper=Dumper, sort_keys=False, allow_unicode=True)

    def data_folder(self) -> Path:
        """Return the dataset folder that earlier stages worked on.

        Raises:
            UserError: no stage has run yet, or the folder is gone.
        """
        manifest = self.manifest()
        recorded = manifest.get("data")
        if recorded is None:
            begin = data_command("caption", "--data", "DATA", "--run", self.path, "--model", "CHECKPOINT")
            raise UserError(f"{self.path} holds no run yet; begin with `{begin}`")
        moved_along = os.path.normpath(self.path.absolute() / manifest.get("data_from_run", ""))
        for metadata in (Path(recorded) / METADATA, Path(moved_along) / METADATA):
            if metadata.is_file() and sha256_of(metadata) == manifest.get("data_sha256"):
                return metadata.parent
        if not Path(recorded).is_dir():
            raise UserError(f"the dataset of {self.path} is no longer at {recorded}; say where with --data DATA")
        return Path(recorded)

    def _data_places(self, data: Path) -> dict[str, str]:
        """Return the manifest's entry for a dataset folder: absolute path, path from the run, and fingerprint."""
        metadata = data / METADATA
        return {
            "data": str(data.absolute()),
            "data_from_run": os.path.relpath(data, self.path),
            "data_sha256": sha256_of(metadata) if metadata.is_file() else "",
        }


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
                "zero_stage"; a given "peak_memory_bytes" or "num_processes" replaces the default.
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
