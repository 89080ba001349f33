"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], num_texts: int | None = None) -> str:
    r"""Return a markdown table; bars inside cells are escaped.

    Args:
        header: cells of the first line.
        rows: cells of the others, as many as in the header.
        num_texts: number of text columns, left-aligned; the following columns are right-aligned.

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
