"""Checkpoints that have moved: found again by their content, wherever they are now."""

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
    """Return a checkpoint folder from the root on, since later stages start from anywhere; a hub id as it is."""
    return str(Path(name_or_path).absolute()) if Path(name_or_path).is_dir() else name_or_path


def is_hub_id(name: str) -> bool:
    """Tell whether a name without a folder can be a hub id, such as OpenGVLab/NAME."""
    return not name.startswith((".", "/", "~")) and name.count("/") == 1


def from_folder(name_or_path: str, folder: Path) -> str:
    """Return the way from a folder to a checkpoint, "" for a hub id: they may move together."""
    return os.path.relpath(name_or_path, folder) if Path(name_or_path).is_dir() else ""


def find_checkpoint(
    recorded: str, sha256: str | None, *, beside: Path | None = None, given: str | Path | None = None, missing: str
) -> str:
    """Return where a recorded checkpoint is now.

    Of the places where it may be, the first with the recorded content counts: where a user says it is, where it was,
    the same way from what it was recorded beside, and the checkpoints that come with the package. Where no content is
    right, the first place that is there is returned, for the comparison to tell both sides.

    Args:
        recorded: the folder or hub id that was used.
        sha256: its fingerprint; None where nobody noted it.
        beside: the place that it would have, had it moved together with what it was recorded beside.
        given: where a user says that it is.
        missing: what to say when it is nowhere.

    Raises:
        UserError: it is nowhere.
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
