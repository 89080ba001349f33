"""Files below a folder, including those behind links, and text files that belong to images."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from data_prep.left_out import Findings
from data_prep.names import normal
from data_prep.source_images import is_image

TEXT_SUFFIX = ".txt"


def files_below(root: Path, findings: Findings) -> list[str]:
    """Return the paths of all files relative to the root, in order; hidden files and folders are left out.

    Every folder is read once, however many links lead to it, and under its own name where that is below the root.

    Args:
        root: the folder.
        findings: counts the files; notes broken links, links to folders already read, and hidden images.
    """
    found: list[str] = []
    met: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        links: list[Path] = []
        for start in waiting:
            if _identity(start) in met:
                findings.seen["files"] += 1
                findings.skip(start.relative_to(root).as_posix(), "link", "leads to a folder that is read already")
            else:
                found += _files_of(start, root, met, links, findings)
        waiting = sorted(links)
    findings.seen["files"] += len(found)
    return sorted(found)


def _files_of(
    start: Path, root: Path, met: set[tuple[int, int]], links: list[Path], findings: Findings
) -> Iterable[str]:
    """Yield the files below a folder; links to folders are put aside."""
    for name, subfolders, files in os.walk(start):
        folder = Path(name)
        if _identity(folder) in met:
            subfolders.clear()
            continue
        met.add(_identity(folder))
        visible = sorted(own for own in subfolders if not own.startswith("."))
        links += [folder / own for own in visible if (folder / own).is_symlink()]
        subfolders[:] = [own for own in visible if not (folder / own).is_symlink()]
        for own in files:
            relative = (folder / own).relative_to(root).as_posix()
            if own.startswith("."):
                if is_image(own):
                    findings.seen["files"] += 1
                    findings.skip(relative, "hidden", "is hidden")
            elif not (folder / own).exists():
                findings.seen["files"] += 1
                findings.skip(relative, "link", "is a link that leads nowhere")
            else:
                yield relative


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


class Beside:
    """Finds the text file of an image: photo.txt or photo.jpg.txt, in any letter case and Unicode form."""

    def __init__(self, files: Iterable[str]):
        """Take the files among which to look."""
        self.texts = [name for name in files if PurePosixPath(name).suffix.lower() == TEXT_SUFFIX]
        self._there = set(self.texts)
        self._by_key: dict[str, list[str]] = {}
        for name in self.texts:
            self._by_key.setdefault(_key(name), []).append(name)

    def of(self, image: str) -> str | None:
        """Return the text file beside an image; None where there is none, or where it could be several."""
        for name in (PurePosixPath(image).with_suffix(TEXT_SUFFIX).as_posix(), image + TEXT_SUFFIX):
            if name in self._there:
                return name
            alike = self._by_key.get(_key(name), ())
            if len(alike) == 1:
                return alike[0]
        return None


def _key(name: str) -> str:
    return normal(name).casefold()
