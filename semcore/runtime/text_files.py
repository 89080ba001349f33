"""Text files of users, opened without their byte order mark.

UTF-8 with and without a mark, and UTF-16 and UTF-32 with one (as spreadsheets and Windows editors write),
are read; everything else is refused with the command that converts it.
"""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, cast

from semcore.runtime.errors import UserError

# UTF-32's mark begins with that of UTF-16, so it stands first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_HEAD = 64  # bytes


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file, or a .gz of one, after its byte order marks.

    Args:
        path: the file.
        newline: as of `open`.

    Raises:
        OSError: the file cannot be opened.
        UserError: the content is not text in a known encoding, also where the caller reads it.
    """
    with cast(IO[bytes], gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")) as handle:
        encoding = _skip_marks(handle, path)
        try:
            yield io.TextIOWrapper(handle, encoding=encoding, newline=newline)
        except UnicodeDecodeError as error:
            raise UserError(no_text(path, error)) from None


def read_text(path: Path) -> str:
    """Return the content of a text file, Windows line ends as plain ones; errors as `open_text`."""
    with open_text(path) as handle:
        return handle.read()


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of a text file; errors as `open_text`, with the line's number."""
    with path.open("rb") as handle:
        encoding = _skip_marks(handle, path)
        if encoding == "utf-8":  # line by line, so that an error has its line
            yield from _decoded_lines(handle, path)
            return
        try:
            yield from enumerate(io.TextIOWrapper(handle, encoding=encoding, newline="\n"), start=1)
        except UnicodeDecodeError as error:
            raise UserError(no_text(path, error)) from None


def _decoded_lines(handle: IO[bytes], path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(handle, start=1):
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(no_text(path, error, number)) from None


def no_text(path: Path, error: UnicodeDecodeError, line: int | None = None) -> str:
    """Return the error sentence about a file that is not in the encoding it seems to be in."""
    place = f"{path}, line {line}" if line else f"{path}"
    if not error.encoding.startswith("utf-8"):
        return f"{place}: not {error.encoding.upper()} text, though its byte order mark says so; save it as UTF-8"
    return (
        f"{place}: not UTF-8 text (byte 0x{error.object[error.start]:02x}); save it as UTF-8, "
        f"such as with iconv -f WINDOWS-1252 -t UTF-8 {path.name}"
    )


def _skip_marks(handle: IO[bytes], path: Path) -> str:
    """Move the file's position behind its byte order marks, and return its encoding."""
    head = handle.read(_HEAD)
    encoding, start = "utf-8", 0
    for mark, name in _MARKS:
        if head.startswith(mark):
            encoding = name
            while head[start:].startswith(mark):  # concatenated files have several
                start += len(mark)
            break
    if encoding == "utf-8" and _looks_wide(head[start:]):
        raise UserError(f"{path}: UTF-16 text without a byte order mark; save it as UTF-8")
    handle.seek(start)
    return encoding


def _looks_wide(head: bytes) -> bool:
    """Return whether every second byte of some letters is zero, as in UTF-16 without a mark."""
    pairs = head[: len(head) // 2 * 2]
    return len(pairs) >= 4 and (not any(pairs[::2]) or not any(pairs[1::2]))
