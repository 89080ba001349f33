"""Copy prompts, recipes and DeepSpeed configurations out for editing.

    semcore init my-project

Commands that are started in that folder use its copies.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from semcore.runtime.errors import UserError
from semcore.runtime.files import write_bytes
from semcore.runtime.packaged_files import packaged_folder

FOLDERS = ("prompts", "recipes", "ds_configs")


@dataclass
class InitSettings:
    """What `semcore init` takes."""

    folder: Path
    """Where prompts, recipes and ds_configs go."""


def main(settings: InitSettings) -> None:
    """Copy the files that a user edits, and print where they are."""
    written = copy_out(settings.folder)
    sys.stdout.write(f"{len(written)} files written to {settings.folder}; commands started there use them\n")


def copy_out(folder: Path) -> list[Path]:
    """Copy the files that users edit into a folder, where every command then finds them first.

    Existing files with the same content are kept; nothing is copied if one differs.

    Returns:
        The files written, relative to `folder`.

    Raises:
        UserError: a file of that name with other content exists, or the folder cannot be written.
    """
    originals = {path: source for name in FOLDERS for path, source in _files_of(packaged_folder(name), name).items()}
    missing = {path: source for path, source in originals.items() if not _is_there(folder / path, source)}
    for path, source in missing.items():
        write_bytes(folder / path, source.read_bytes())
    return list(missing)


def _files_of(folder: Path, name: str) -> dict[Path, Path]:
    """Return target path -> source path of every file below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {Path(name) / path.relative_to(folder): path for path in found}


def _is_there(target: Path, source: Path) -> bool:
    if not target.exists():
        return False
    if target.is_file() and target.read_bytes() == source.read_bytes():
        return True
    raise UserError(f"{target} is there and differs from the original; choose another folder, or move it away")
