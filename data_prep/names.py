"""Look-up of files by names in another Unicode normal form, or with another separator.

File systems and tables disagree: macOS stores "é" as two letters, most tables hold one; tables from Windows
separate folders with backslashes. Names that differ in case are other names, and are only said.
"""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path, PurePosixPath


def normal(name: str) -> str:
    """Return a name in the normal form in which names are compared."""
    return unicodedata.normalize("NFC", name)


def find_file(folder: Path, name: str) -> Path:
    """Return the path of a relative name, whether the file exists or not.

    A file of exactly this name is preferred; another spelling counts where it is the only one.
    """
    path = folder / name
    if os.path.exists(path):
        return path
    for spelt in dict.fromkeys((name, name.replace("\\", "/"))):
        found = folder
        for part in PurePosixPath(spelt).parts:
            found = _child(found, part)
        if os.path.exists(found):
            return found
    return path


def is_there(path: str | Path) -> bool:
    """Return whether there is a file; not where its name is one that no file can have, for which `Path` raises."""
    return os.path.isfile(path)


def similar_name(path: Path) -> str | None:
    """Return the name of the file beside a missing one that differs from it in case, or in its suffix, only."""
    names = [name for own in _listing(path.parent).values() for name in own]
    for key in (_folded, lambda name: _folded(PurePosixPath(name).stem)):
        alike = sorted(name for name in names if key(name) == key(path.name))
        if alike:
            return alike[0]
    return None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _child(folder: Path, part: str) -> Path:
    if os.path.exists(folder / part):
        return folder / part
    names = _listing(folder).get(normal(part), ())
    return folder / (names[0] if len(names) == 1 else part)


def _listing(folder: Path) -> dict[str, tuple[str, ...]]:
    try:
        return _listed(str(folder), os.stat(folder).st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=16)
def _listed(folder: str, _changed: int) -> dict[str, tuple[str, ...]]:
    """Return normal form -> the names in a folder that have it; read again when the folder changes."""
    names: dict[str, tuple[str, ...]] = {}
    for name in sorted(os.listdir(folder)):
        names[normal(name)] = (*names.get(normal(name), ()), name)
    return names
