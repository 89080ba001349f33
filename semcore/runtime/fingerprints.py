"""Fingerprints: SHA-256 over the content of files, cached for large files that have not changed since.

Hashing 16 GB of weights takes ten seconds and more, and every stage needs the hash. So the hash of large files is
kept in the user's cache folder, together with each file's size, inode, mtime and ctime. Any write, replacement or
restored time changes one of these.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, sha256_of, write_json

LARGE_BYTES = 16 << 20  # ours: less is hashed in some hundredths of a second
SETTLED_NS = 2_000_000_000  # ours: two writes within the file system's clock tick could look like one
_memory: dict[str, dict[str, Any]] = {}
"""Subject -> the hash and file states found in this process."""
CHECKPOINT_FILES = (".safetensors", ".json", ".jinja")


def fingerprint(name_or_path: str | Path) -> str:
    """Return a sha256 over a local checkpoint's weights, configuration and tokenizer.

    A hub id has no local files; its fingerprint is its name.
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        return hashlib.sha256(str(name_or_path).encode()).hexdigest()
    files = [path for path in sorted(folder.iterdir()) if path.suffix in CHECKPOINT_FILES]
    return _remembered(folder, files, lambda: _hash_files(files))


def file_fingerprint(path: Path) -> str:
    """Return the sha256 of a file's content; errors as `semcore.runtime.files.sha256_of`."""
    return _remembered(path, [path], lambda: sha256_of(path)) if path.is_file() else sha256_of(path)


def _hash_files(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _remembered(subject: Path, files: Sequence[Path], compute: Callable[[], str]) -> str:
    """Return a hash, from memory or (for large files) the cache where no file has changed since."""
    key, states = str(subject.resolve()), [_state(path) for path in files]
    note = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    is_large = sum(size for _, size, *_ in states) >= LARGE_BYTES
    known = _memory.get(key) or (_read(note) if is_large else {})
    if known.get("states") == states:
        return str(known["sha256"])
    found = {"states": states, "sha256": compute()}
    newest = max((max(times) for *_, times in states), default=0)
    if states == [_state(path) for path in files] and time.time_ns() - newest > SETTLED_NS:
        _memory[key] = found
        if is_large:
            _write(note, found)
    return str(found["sha256"])


def cache_folder() -> Path:
    """Return the folder that keeps hashes of large files; it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "semcore" / "fingerprints"


def _state(path: Path) -> list[Any]:
    status = path.stat()
    return [path.name, status.st_size, status.st_ino, [status.st_mtime_ns, status.st_ctime_ns]]


def _read(note: Path) -> dict[str, Any]:
    try:
        return read_json(note)
    except UserError:
        return {}


def _write(note: Path, content: dict[str, Any]) -> None:
    """Store a hash; a cache that cannot be written costs only time."""
    try:
        write_json(note, content)
    except (UserError, OSError):
        return
