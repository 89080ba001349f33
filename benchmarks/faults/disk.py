"""A small disk in memory, which can be made full or read-only; without the right to mount, a plain folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WHOLE_BYTES = 2 * 1024**3
PAGE_BYTES = 4096


class Disk:
    """A disk whose size can be changed while files are on it.

    Attributes:
        folder: where its files are.
        why_not: why it cannot be made full or read-only; empty where it can.
    """

    def __init__(self, folder: Path, why_not: str = ""):
        self.folder, self.why_not = folder, why_not

    def limit(self, num_bytes: int = WHOLE_BYTES) -> None:
        """Give the disk room for so many bytes in all."""
        self._remount(f"rw,size={num_bytes // PAGE_BYTES * PAGE_BYTES}")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let nothing be written for a while."""
        self._remount("ro")
        try:
            yield
        finally:
            self._remount("rw")

    def fill(self, content: Path | None) -> None:
        """Put a copy of a folder in place of all that is there; None for nothing."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if content is not None:
            shutil.copytree(content, self.folder, symlinks=True, dirs_exist_ok=True)

    def _remount(self, options: str) -> None:
        if not self.why_not:
            subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Mount a disk in memory on a folder for a while, where that is allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={WHOLE_BYTES}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        yield Disk(folder, "no disk can be mounted here; root may")
        return
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
