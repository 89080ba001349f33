"""Compare two finished runs on the same queries: paired differences with intervals and tests.

    semcore compare runs/one runs/other
    semcore compare runs/one runs/other --json comparison.json

Every difference is the second run's score less the first's, in points, with the 95 % interval of a paired bootstrap
over images and the p-value of a paired randomisation test.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from semcore.data.directions import Direction
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from semcore.runtime.typed_commands import command
from semcore.study.scores import compare, measured_directions, read_found, was_verified
from semcore.study.tables import Ranking

METRICS = ("R@1", "R@5", "R@10")


@dataclass
class CompareSettings:
    """What `semcore compare` takes."""

    first: Path
    """A measured run folder."""
    second: Path
    """Another, measured with the same queries."""
    json: Path | None = None
    """A file to save the comparison in too."""


def main(settings: CompareSettings) -> None:
    """Print the comparison of two runs."""
    rows = compare_runs(settings.first, settings.second)
    if settings.json is not None:
        write_json(settings.json, {"first": str(settings.first), "second": str(settings.second), "rows": rows})
    console = Console(highlight=False)
    console.print(_table(rows, settings))
    for name in ("split", "num_beams", "protocol"):
        values = [read_json(run / "metrics.json").get(name) for run in (settings.first, settings.second)]
        if values[0] != values[1]:
            console.out(f"compare: the two differ in {name}: {values[0]} and {values[1]}")


def compare_runs(first: Path, second: Path) -> list[dict[str, Any]]:
    """Return a row a direction, ranking and metric; directions and verified rankings only where both runs have them.

    Raises:
        UserError: a run is not measured, or the two were measured in different directions or with different queries.
    """
    of_first, of_second = measured_directions(first), measured_directions(second)
    directions = [direction for direction in of_first if direction in of_second]
    if not directions:
        anew = command("semcore", "evaluate", "--run", second, "--directions", f"[{of_first[0]}]")
        raise UserError(
            f"{first} is measured {of_first[0]} and {second} {of_second[0]}: measure both in one direction, "
            f"`{anew}` say"
        )
    both_verified = was_verified(first) and was_verified(second)
    rankings: tuple[Ranking, ...] = ("generated", "verified") if both_verified else ("generated",)
    rows = []
    for ranking in rankings:
        one, other = (read_found([run], ranking) for run in (first, second))
        for direction in directions:
            for metric in METRICS:
                found = compare(other, one, direction, metric)
                scores = {"first": compare(one, one, direction, metric)["mean"], "second": found["mean"]}
                kind = {"direction": direction, "ranking": ranking, "metric": metric}
                rows.append({**kind, **scores, **found["difference"]})
    return rows


def _table(rows: list[dict[str, Any]], settings: CompareSettings) -> Table:
    title = f"{settings.second} less {settings.first}, points"
    table = Table("", "", "first", "second", "difference", "95 % interval", "p", title=title, title_justify="left")
    for row in rows:
        table.add_row(
            f"{Direction(row['direction']).label}, {row['ranking']}",
            row["metric"],
            f"{row['first']:.1f}",
            f"{row['second']:.1f}",
            f"{row['mean']:+.1f}",
            f"[{row['low']:+.1f}, {row['high']:+.1f}]".replace("[", "\\["),
            f"{row['p_value']:.4f}",
        )
    return table
