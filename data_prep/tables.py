"""Tolerant reader of users' tables, row by row: an unclosed quote damages no more than its own row.

A quote at the start of a cell opens a quoted cell, which may hold separators, doubled quotes and line breaks. It is
read as a letter where it is not closed, where text follows the closing quote, or where it could only be closed after
lines that are rows themselves; such a row is read as it stands, and reported. Memory holds a row.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TextIO

from semcore.runtime.errors import UserError
from semcore.runtime.text_files import open_text

MAX_ROW = 1 << 20  # characters that a quoted cell may go on for
SEPARATORS = (",", "\t", ";", "|")
TOKEN_LINE = re.compile(r"(?P<image>[^\t]*\S)#(?P<number>\d+)\t(?P<sentence>.*)", re.DOTALL)
"""A line of Flickr's .token files: `1000092795.jpg#0<tab>Two young guys .`"""


class Line(NamedTuple):
    """A row of a table.

    Attributes:
        number: the line it begins at, from 1.
        cells: their texts, without surrounding blanks and quotes.
        as_it_stands: a quote in it is not closed and was read as a letter.
    """

    number: int
    cells: list[str]
    as_it_stands: bool = False


def read_lines(
    path: Path, separator: str, quote: str, is_row: Callable[[list[str]], bool] = lambda cells: False
) -> Iterator[Line]:
    """Yield the rows of a table that are not blank, the first line among them.

    Args:
        path: the file.
        separator: one character.
        quote: one character; empty where quotes are letters.
        is_row: tells whether the cells of a line, quotes left in them, can only be a row of their own.

    Raises:
        OSError: the file cannot be opened.
        UserError: it is no text.
    """
    with open_text(path, newline="") as handle:
        lines = _Lines(handle)
        while text := lines.take():
            number = lines.number
            line = _row(text, number, lines, separator, quote, is_row)
            if any(line.cells):
                yield line


class _Lines:
    """Lines of a file, which can be pushed back."""

    def __init__(self, handle: TextIO):
        self._handle, self._waiting = handle, deque[str]()
        self.number = 0

    def take(self) -> str:
        """Return the next line with its end, "" after the last."""
        line = self._waiting.popleft() if self._waiting else self._handle.readline()
        self.number += bool(line)
        return line

    def give_back(self, lines: list[str]) -> None:
        self._waiting.extendleft(reversed(lines))
        self.number -= len(lines)


def _row(
    text: str, number: int, lines: _Lines, separator: str, quote: str, is_row: Callable[[list[str]], bool]
) -> Line:
    plain = _unquoted(text, separator)
    if not quote or quote not in text:
        return Line(number, plain)
    cells = split_quoted(text, separator, quote)
    taken: list[str] = []
    while cells is None and len(text) < MAX_ROW:
        following = lines.take()
        if not following:
            break
        taken.append(following)
        if is_row(_unquoted(following, separator)):
            break
        text += following
        if quote in following:
            cells = split_quoted(text, separator, quote)
    if cells:
        return Line(number, cells)
    lines.give_back(taken)
    return Line(number, plain, as_it_stands=True)


def split_quoted(text: str, separator: str, quote: str) -> list[str] | None:
    """Return the cells of a row with quotes: none where a closed quote has text behind it, None where one is open.

    >>> split_quoted('a.png, "one, ""two"" 3",4" wide', ",", '"'), split_quoted('a, "b', ",", '"')
    (['a.png', 'one, "two" 3', '4" wide'], None)
    >>> split_quoted('a.png,"Stop" says the sign', ",", '"')
    []
    """
    cells, place, text = [], 0, text.rstrip("\r\n")
    pattern = _cell_pattern(separator, quote)
    while place <= len(text):
        found = pattern.match(text, place)
        if found is None:  # a quote is open, or text follows the closing one
            return None if _is_open(text[place:].lstrip(), quote) else []
        quoted = found["quoted"]
        cells.append(found["plain"].strip() if quoted is None else quoted.replace(quote * 2, quote))
        place = found.end() + 1
    return cells


@lru_cache(maxsize=8)
def _cell_pattern(separator: str, quote: str) -> re.Pattern[str]:
    s, q = re.escape(separator), re.escape(quote)
    blank = rf"[^\S\r\n{s}]*+"
    return re.compile(rf"{blank}(?:{q}(?P<quoted>(?:[^{q}]|{q}{q})*+){q}{blank}|(?P<plain>(?!{q})[^{s}]*))(?={s}|\Z)")


def _is_open(text: str, quote: str) -> bool:
    return not text.removeprefix(quote).replace(quote * 2, "").count(quote)


def _unquoted(text: str, separator: str) -> list[str]:
    return [cell.strip() for cell in text.rstrip("\r\n").split(separator)]


def first_line(path: Path) -> str:
    """Return the first line that is not blank, without its end.

    Raises:
        UserError: there is none, or the file is no text.
    """
    with open_text(path) as handle:
        for line in handle:
            if line.strip():
                return line.rstrip("\n")
    raise UserError(f"{path} is empty")


def read_token_lines(path: Path) -> Iterator[Line]:
    """Yield the rows of a .token file as image and sentence; a line of another form is one cell."""
    with open_text(path, newline="\n") as handle:
        for number, line in enumerate(handle, start=1):
            found = TOKEN_LINE.fullmatch(line.rstrip("\r\n"))
            if found:
                yield Line(number, [found["image"], found["sentence"].strip()])
            elif line.strip():
                yield Line(number, [line.strip()])
