"""Tables in markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], num_texts: int | None = None) -> str:
    r"""Return a table of cells; a bar inside a cell, which would end it, is escaped.

    Args:
        header: the first line.
        rows: the others, as long as the header.
        num_texts: columns of text, left-aligned; those behind them hold numbers and are right-aligned.

    >>> print(markdown_table(["token", "items"], [["<|cluster_0|>", "3"]], num_texts=1))
    | token | items |
    |---|--:|
    | <\|cluster_0\|> | 3 |
    """
    num_texts = len(header) if num_texts is None else num_texts
    rule = "|" + "---|" * num_texts + "--:|" * (len(header) - num_texts)
    return "\n".join([_line(header), rule, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
