"""Look-up of moved checkpoints by their content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from semcore.runtime.errors import UserError
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.packaged_files import asset_folder

PACKAGED = ("scenes_base",)
"""Checkpoints that come with the package."""


def absolute_place(name_or_path: str) -> str:
    """Return a checkpoint folder's absolute path, since later stages may start elsewhere; a hub id as it is."""
    return str(Path(name_or_path).absolute()) if Path(name_or_path).is_dir() else name_or_path


def is_hub_id(name: str) -> bool:
    """Tell whether a name without a folder can be a hub id, such as OpenGVLab/NAME."""
    return not name.startswith((".", "/", "~")) and name.count("/") == 1


def from_folder(name_or_path: str, folder: Path) -> str:
    """Return a checkpoint's path relative to a folder, as they may move together; "" for a hub id."""
    return os.path.relpath(name_or_path, folder) if Path(name_or_path).is_dir() else ""


def find_checkpoint(
    recorded: str, sha256: str | None, *, beside: Path | None = None, given: str | Path | None = None, missing: str
) -> str:
    """Return the present path of a recorded checkpoint.

    Returns the first candidate path with the recorded content: the user's, the recorded one, the same path relative
    to the folder it was recorded in, and the checkpoints that come with the package. Where no content matches, the
    first path that exists is returned, so that the comparison can report both fingerprints.

    Args:
        recorded: the folder or hub id that was used.
        sha256: its fingerprint; None where none was recorded.
        beside: its path if it moved together with the folder it was recorded in.
        given: the path that the user gives.
        missing: the error sentence when no path exists.

    Raises:
        UserError: no path exists.
    """
    if given is not None and not Path(given).is_dir() and not is_hub_id(str(given)):
        raise UserError(f"there is no checkpoint folder {given}; say with --base where it is")
    places = list(_places(recorded, beside, given))
    for place in [*places, *(_packaged() if sha256 else ())]:
        if sha256 is None or fingerprint(place) == sha256:
            return place
    if not places:
        raise UserError(missing)
    return places[0]


def _places(recorded: str, beside: Path | None, given: str | Path | None) -> Iterator[str]:
    if given is not None:
        yield str(given)
    if Path(recorded).is_dir() or is_hub_id(recorded):
        yield recorded
    if beside is not None and beside.is_dir():
        yield os.path.normpath(beside)


def _packaged() -> list[str]:
    return [str(asset_folder(name)) for name in PACKAGED if asset_folder(name).is_dir()]
