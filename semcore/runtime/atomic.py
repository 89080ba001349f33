"""Atomic creation and replacement of folders: a folder of weights appears complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from semcore.runtime.errors import UserError
from semcore.runtime.files import is_disk_full, writing_to
from semcore.runtime.remains import INCOMPLETE, is_left_behind, remove, temporary_beside


def check_new(source: Path, target: Path) -> None:
    """Check that a target folder does not exist yet.

    Raises:
        UserError: it exists already, or is the source.
    """
    if source.resolve() == target.resolve():
        raise UserError(f"SRC and DST are the same folder, {source}; give another DST: the original is kept")
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} exists already; give a DST that does not, or remove it first")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside the target, which is renamed to the target unless something fails.

    Raises:
        UserError: the disk is full, or the place cannot be written to.
    """
    folder = temporary_beside(target.absolute(), INCOMPLETE)
    with writing_to(target):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for other in folder.parent.iterdir():
            if other.name.startswith(f".{target.name}.") and is_left_behind(other.name):
                remove(other)
    try:
        yield folder
        _flush(folder)
        os.rename(folder, target)
    except (OSError, SafetensorError) as error:
        reason = "its disk is full" if is_disk_full(error) else " ".join(str(error).split())
        raise UserError(
            f"{target} could not be written: {reason}; nothing is left of it, make room and run the command again"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside the target, which replaces the target at the end.

    A kill leaves the old folder or the new one; `restore_folder` must be called before the target is read.

    Raises:
        UserError: the disk is full, or the place cannot be written to.
    """
    new, old = target.with_name(f".{target.name}.new"), _set_aside(target)
    with writing_to(target):
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
        shutil.rmtree(old, ignore_errors=True)


def restore_folder(target: Path) -> None:
    """Restore a folder that a kill left aside while it was being replaced."""
    if _set_aside(target).exists() and not target.exists():
        os.replace(_set_aside(target), target)


def _set_aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _flush(folder: Path) -> None:
    """Flush the files to the disk: a full one may be reported as late as here.

    safetensors makes files that only their owner can read; they get the folder's permissions.
    """
    for path in folder.iterdir():
        path.chmod(folder.stat().st_mode & 0o666)
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
