"""Rows of a benchmark: printed as a table, and saved with the machine, versions, date and command that made them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from semcore.runtime.files import write_json
from semcore.runtime.hardware import describe_measurement


@dataclass(frozen=True)
class Row:
    """One measurement; `ratio` above 1 means ours is better, None that there is nothing to compare."""

    name: str
    ours: float | None
    peer: float | None
    ratio: float | None
    unit: str
    note: str = ""


def lower_is_better(name: str, ours: float, peer: float | None, unit: str, note: str = "") -> Row:
    """Make a row of seconds or bytes."""
    return Row(name, ours, peer, None if peer is None else peer / ours, unit, note)


def higher_is_better(name: str, ours: float, peer: float | None, unit: str, note: str = "") -> Row:
    """Make a row of a throughput."""
    return Row(name, ours, peer, None if peer is None else ours / peer, unit, note)


def not_run(name: str, why: str) -> Row:
    """Make a row of a measurement that was not possible here."""
    return Row(name, None, None, None, "", f"not run: {why}")


def publish(rows: Sequence[Row], json_file: Path | None, **remarks: Any) -> None:
    """Print the rows as a table, and save them, with remarks on all of them, where a file is named."""
    table = Table("name", "ours", "peer", "ratio", "unit", "note")
    for row in rows:
        table.add_row(row.name, _figure(row.ours), _figure(row.peer), _figure(row.ratio), row.unit, row.note)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if json_file is not None:
        write_json(json_file, {"rows": [asdict(row) for row in rows], **remarks, **describe_measurement()})


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
