"""Run folder: the stages of one run and the record of each.

RUN/config.yaml     the settings of every stage, by section
RUN/manifest.json   versions, hardware, prompts, and each stage's time and memory
RUN/.lock           held while a command works on the run
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from semcore import __version__
from semcore.data.stage_changes import from_the_root, setting_changes
from semcore.data.stages import Stage, entry_of
from semcore.runtime.config_file import read_yaml
from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text, plain_data, read_json, sha256_of, write_json, writing_to
from semcore.runtime.hardware import describe_hardware, git_sha, library_versions
from semcore.runtime.locks import exclusive
from semcore.runtime.ranks import is_main_process
from semcore.runtime.remains import remove_left_behind
from semcore.runtime.typed_commands import data_command
from semcore.runtime.yaml_values import Dumper

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
        takes a lock of another `name`, since the stages take theirs. Temporary files that killed processes
        have left are removed by the stages.

        Raises:
            UserError: another process works on this run.
        """
        if not is_main_process():
            yield
            return
        with writing_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with exclusive(self / f".{name}.lock" if name else self / ".lock", self._is_busy):
            if not name:
                remove_left_behind(self.path)
            yield

    def _is_busy(self, holder: str) -> str:
        return f"process {holder} is working on {self.path}; wait until it is done, or choose another --run"

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
        entry = entry_of(self.path, name, before, new)
        manifest["stages"][name] = entry
        if data is not None:
            manifest |= self._data_places(Path(data))
        stage = Stage(self.path, name, entry["finished"], self._record)
        if is_main_process():
            self._write_manifest(manifest if stage.finished else {**manifest, **_surroundings()})
        if is_main_process() and not stage.finished:
            go_on = before is not None and not before["finished"] and not setting_changes(before, entry)
            stage.start(go_on)
        return stage

    def manifest(self) -> dict[str, Any]:
        """Return the content of manifest.json; {} before the first stage."""
        path = self / "manifest.json"
        return read_json(path) if path.exists() else {}

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        write_json(self / "manifest.json", manifest)

    def _record(self, stage: str, values: dict[str, Any]) -> None:
        manifest = self.manifest()
        manifest["stages"][stage].update(values)
        self._write_manifest(manifest)

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


def _surroundings() -> dict[str, Any]:
    return {
        "semcore": __version__,
        "git": git_sha(),
        "versions": library_versions(),
        "hardware": describe_hardware(),
    }
