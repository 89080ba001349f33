"""Sections of a report: a heading, sentences, tables and plots, laid out alike by both templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from semcore.report.plots import Plot


class Table(NamedTuple):
    """A table of texts; the first cell of a row names it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Section(NamedTuple):
    """A part of the report under a heading; markdown has no plots, so a table says what they show."""

    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()


def percent(value: float | None) -> str:
    """Format a percentage without its sign, a dash where there is none.

    >>> percent(62.52), percent(None)
    ('62.5', '–')
    """
    return "–" if value is None else f"{value:.1f}"


def plural(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> plural(1, "query"), plural(2000, "query")
    ('1 query', '2,000 queries')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"
