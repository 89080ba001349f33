"""Streaming reader of large lists in a JSON file: memory holds an entry, not the file.

Each value is decoded in one piece by the standard library's decoder. ijson (3.6) was tried instead: it replaces a lone
surrogate by a question mark, where the importers count and replace it; gives no line and column of an error; reads a
list and the values beside it in two passes; and takes 1.7 times as long for one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from semcore.runtime.errors import UserError
from semcore.runtime.json_values import decode
from semcore.runtime.text_files import open_text

BLOCK = 1 << 18  # characters read at once
NEAR_END = 64  # an error so near to the end of what was read may only mean that more is to come
_BLANK = " \t\r\n"
_CLOSING = tuple('"]}')
_DELIMITERS = (*_BLANK, ",", "]", "}")


def stream_list(path: Path, key: str, others: dict[str, Any], option: str = "--json") -> Iterator[Any]:
    """Yield the entries of the list `key` of a JSON object in a .json or .json.gz file; as `stream_lists`."""
    for _, entry in stream_lists(path, (key,), others, option):
        yield entry


def stream_lists(
    path: Path, keys: tuple[str, ...], others: dict[str, Any], option: str = "--json"
) -> Iterator[tuple[str, Any]]:
    """Yield (name of the list, entry) of lists of a JSON object in a .json or .json.gz file, as they stand there.

    Args:
        path: the file; it is read once from start to end.
        keys: the names of the lists; the first one has to be there.
        others: the object's other values are put here, as they are met.
        option: what the user gave the file with.

    Raises:
        UserError: missing, damaged, not JSON (with line and column), no object, or without the list.
    """
    try:
        with open_text(path) as handle:
            yield from _Text(handle, path).entries(keys, others)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check {option}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


class _Text:
    """A text that is read block by block and consumed value by value."""

    def __init__(self, handle: IO[str], path: Path):
        self.handle, self.path = handle, path
        self.buffer, self.at = "", 0
        self.line, self.column = 1, 1  # of the start of the buffer

    def entries(self, keys: tuple[str, ...], others: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        key, found = keys[0], False
        if self.peek() != "{":
            self.value()  # a file that is no JSON at all says where
            raise UserError(f"{self.path} is not in the Karpathy layout: it has no list {key!r}")
        for name in self.members("{", "}"):
            if name in keys and self.peek() == "[":
                found = found or name == key
                for _ in self.members("[", "]"):
                    yield name, self.value()
            else:
                others[name] = self.value()
        if self.peek():
            self.fail("Extra data")
        if not found:
            raise UserError(f"{self.path} is not in the Karpathy layout: it has no list {key!r}")

    def members(self, opening: str, closing: str) -> Iterator[str]:
        """Walk to each value of an object (yielding its name) or of a list; the caller takes the value."""
        self.take(opening)
        if self.peek() == closing:
            return self.take(closing)
        while True:
            name = ""
            if opening == "{":
                if self.peek() != '"':
                    self.fail("Expecting property name enclosed in double quotes")
                name = self.value()
                self.take(":")
            yield name
            if self.peek() == closing:
                return self.take(closing)
            self.take(",")
            if self.peek() == closing:
                self.fail("Illegal trailing comma before end of " + ("object" if closing == "}" else "array"))

    def peek(self) -> str:
        """Return the next character that is not blank, "" at the end."""
        while True:
            while self.at < len(self.buffer) and self.buffer[self.at] in _BLANK:
                self.at += 1
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self.more():
                return ""

    def take(self, character: str) -> None:
        if self.peek() != character:
            self.fail(f"Expecting '{character}' delimiter")
        self.at += 1

    def value(self) -> Any:
        """Take a whole value, reading on until it is there."""
        self.peek()
        while True:
            try:
                value, end = decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self.buffer) - NEAR_END or error.msg.startswith("Unterminated string")
                distance = error.pos - self.at
                if not (cut and self.more(len(self.buffer) - self.at)):
                    self.fail(error.msg, self.at + distance)
                continue
            whole = self.buffer[end - 1] in _CLOSING or self.buffer[end : end + 1] in _DELIMITERS
            if whole or not self.more(len(self.buffer) - self.at):  # a number may go on in the next block
                self.at = end
                return value

    def more(self, least: int = 0) -> bool:
        """Drop what is consumed and read on; False at the end of the file."""
        self.line, self.column = self.place(self.at)
        block = self.handle.read(max(BLOCK, least))
        self.buffer, self.at = self.buffer[self.at :] + block, 0
        return bool(block)

    def place(self, at: int) -> tuple[int, int]:
        """Return line and column of a place in the buffer."""
        lines = self.buffer.count("\n", 0, at)
        if not lines:
            return self.line, self.column + at
        return self.line + lines, at - self.buffer.rfind("\n", 0, at)

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        line, column = self.place(self.at if at is None else at)
        raise UserError(f"{self.path}, line {line}, column {column}: not valid JSON ({reason})") from None
