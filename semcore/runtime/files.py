"""Atomic reading and writing of files: a kill leaves the old content or the new one, never a part."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

from semcore.runtime.errors import UserError
from semcore.runtime.json_values import parse_json
from semcore.runtime.remains import temporary_beside
from semcore.runtime.text import whole_characters
from semcore.runtime.text_files import lines_of, read_text

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY)
DISK_FULL = "no space left on "
DISK_FULL_SENTENCE = DISK_FULL + "{where}: free some and run the same command again"


_OF_TORCH = re.compile(r"inline_container.*unexpected pos|PytorchStreamWriter failed writing")
"""How `torch.save` ends on a full disk: its file is shorter than what it has written."""


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error means a full disk or a used-up quota, whichever library raised it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return os.strerror(errno.ENOSPC) in str(error) or _OF_TORCH.search(str(error)) is not None


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn a full disk, or a folder that cannot be written to, into a `UserError` that names the place.

    Raises:
        UserError: no space left, no permission, or a read-only disk.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise UserError(DISK_FULL_SENTENCE.format(where=f"the disk of {path}")) from None
        if error.errno in NOT_WRITABLE:
            raise UserError(f"{path} cannot be written: {error.strerror}; choose another place") from None
        raise


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """Open a text file that takes its name only when everything is written.

    Raises:
        UserError: no space left, or no permission to write there.
    """
    # In JSON the escape reads back as what it was: half a surrogate pair, from a file name say, is never an error.
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as handle:
        yield handle
        _to_disk(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file's bytes, atomically.

    Raises:
        UserError: no space left, or no permission to write there.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        handle.write(content)
        _to_disk(handle)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to the target at the end, unless something fails.

    Raises:
        UserError: no space left, or no permission to write there.
    """
    temporary = temporary_beside(path)
    with writing_to(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _to_disk(handle: IO[Any]) -> None:
    handle.flush()
    os.fsync(handle.fileno())


def plain_data(value: Any) -> Any:
    """Return a value as it looks after a round trip through JSON: lists, text keys, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): plain_data(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    with atomic_text(path) as handle:
        json.dump(value, handle, ensure_ascii=False, indent=2)
        handle.write("\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, atomically; `rows` may be a generator."""
    with atomic_text(path) as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        UserError: the file is missing, is not valid JSON (with the line number) or no object.
    """
    try:
        content = parse_json(read_text(path))
    except OSError as error:
        raise UserError(_cannot_read(path, error)) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a JSON object is needed, found {type(content).__name__}")
    return content


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the object of every line that is not blank.

    Raises:
        UserError: the file is missing, or a line is not a JSON object (with its number).
    """
    for _, row in read_numbered_jsonl(path):
        yield row


def read_numbered_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of every line that is not blank; errors as `read_jsonl`."""
    try:
        for number, line in lines_of(path):
            if line.strip():
                yield number, _parse_line(path, number, line)
    except OSError as error:
        raise UserError(_cannot_read(path, error)) from None


def _parse_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number}: not valid JSON ({error.msg})") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: a JSON object is needed, found {type(row).__name__}")
    return _whole_texts(row) if "\\ud" in line.lower() else row


def _whole_texts(value: Any) -> Any:
    """Replace the halves of surrogate pairs that JSON's escapes can spell, in keys and values."""
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, dict):
        return {whole_characters(key): _whole_texts(inner) for key, inner in value.items()}
    return [_whole_texts(inner) for inner in value] if isinstance(value, list) else value


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise UserError(_cannot_read(path, error)) from None


def _cannot_read(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no file {path}"
    return f"{path} cannot be read: {error.strerror}"


def hash_of(*parts: Any) -> str:
    """Return a short hash of plain data, equal for equal data."""
    return hashlib.sha256(json.dumps(plain_data(list(parts)), sort_keys=True).encode()).hexdigest()[:16]
