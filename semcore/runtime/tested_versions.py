"""Versions that the tests have passed with, from requirements/tested.txt, compared with the installed ones."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.version import Version

from semcore.runtime.packaged_files import pinned_versions_file


class Difference(NamedTuple):
    """A library that is installed in another version than the tested one."""

    name: str
    installed: str
    tested: str


def differences() -> list[Difference]:
    """Return the installed libraries whose version differs from the tested one; builds of one version are the same."""
    found = []
    for name, tested in read_versions(pinned_versions_file()).items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue
        if Version(installed).public != tested:
            found.append(Difference(name, installed, tested))
    return found


def read_versions(path: Path) -> dict[str, str]:
    """Return name -> version from a requirements file; empty where there is none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    pins = (Requirement(line) for line in lines if line and not line.startswith("#"))
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
