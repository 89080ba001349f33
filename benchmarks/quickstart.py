"""Scores and costs of the quickstart: means over seeds, and the spread of the seeds.

    python -m benchmarks.quickstart --out runs --json benchmarks/results/quickstart.json --readme README.md

Runs `semcore quickstart --out OUT/seed-N --seed N` for every seed; finished stages are not repeated. "ours" is a mean
over the seeds; the peer of a recall is the ideal reader's, the ceiling. `--readme` writes the tables of the
README from the rows, between the markers that name the results file. Seconds are seed 0's: let nothing run beside it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import hypot
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.readme_tables import METRICS, STAGES, write_tables
from benchmarks.report import Row, publish
from semcore.commands.arguments import run_command
from semcore.data.directions import Direction
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json

RECALLS = METRICS[:3]


@dataclass
class Settings:
    """What to run."""

    out: Path
    """Folder of the run folders, one a seed."""
    num_seeds: int = 3
    """Seeds 0, 1, ... of so many runs."""
    json: Path | None = None
    """File to save the rows in."""
    readme: Path | None = None
    """A document whose tables of these results are written anew."""

    def __post_init__(self) -> None:
        if self.num_seeds < 1:
            raise UserError("--num-seeds takes a whole number of at least 1")
        if self.readme is not None and self.json is None:
            raise UserError("--readme holds the rows of a file: name it with --json, as the document's marker does")


def main(settings: Settings) -> None:
    """Run the seeds that are not done, and publish the rows."""
    folders = [settings.out / f"seed-{seed}" for seed in range(settings.num_seeds)]
    for seed, folder in enumerate(folders):
        if (folder / "metrics.json").exists():
            continue
        command = [
            sys.executable,
            "-m",
            "semcore.commands.cli",
            "quickstart",
            "--out",
            str(folder),
            "--seed",
            str(seed),
        ]
        subprocess.run(command, check=True)
    metrics = [read_json(folder / "metrics.json") for folder in folders]
    for folder, one in zip(folders, metrics, strict=True):
        if "verifiers_less_generated" not in one:
            raise UserError(
                f"{folder} was evaluated by an earlier version, without the gains; delete it, or choose --out"
            )
    stages = [read_json(folder / "manifest.json")["stages"] for folder in folders]
    rows = [*score_rows(metrics), *gain_rows(metrics), *closing_rows(metrics), *cost_rows(stages)]
    publish(rows, settings.json)
    if settings.readme is not None:
        held = {row.name: row.ours for row in rows if row.ours is not None}
        write_tables(settings.readme, str(settings.json), held)


def score_rows(metrics: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the scores of every ranking, beside the ceiling: generated, each verifier alone and fused."""
    rows = []
    for direction in Direction:
        name = direction.label
        ceilings = {metric: [one["ceiling"][direction][metric] for one in metrics] for metric in RECALLS}
        ceilings["rSum"] = [sum(one) for one in zip(*ceilings.values(), strict=True)]
        rankings = {"generated": [one[direction]["generated"] for one in metrics]}
        if all("generated_paper" in one[direction] for one in metrics):
            rankings["generated, the paper's score"] = [one[direction]["generated_paper"] for one in metrics]
        for verifier in metrics[0]["verifiers"]:
            rankings[f"{verifier} alone"] = [one["verifiers_alone"][verifier][direction] for one in metrics]
            rankings[f"verified, {verifier}"] = [one["verifiers"][verifier][direction] for one in metrics]
        for label, scores in rankings.items():
            for metric in METRICS:
                values = [one[metric] for one in scores]
                rows.append(mean_row(f"{name}, {label}, {metric}", values, fmean(ceilings[metric])))
        rows += [mean_row(f"{name}, ceiling, {metric}", values) for metric, values in ceilings.items()]
    return rows


def gain_rows(metrics: Sequence[dict[str, Any]]) -> list[Row]:
    """Return each verifier's gain in R@1, alone and fused, on the order it was given, and that of one on another."""
    rows = []
    for direction in Direction:
        for verifier in metrics[0]["verifiers"]:
            for kind in ("alone", "fused"):
                changes = [one["verifiers_less_generated"][verifier][direction][kind]["R@1"] for one in metrics]
                rows.append(gain_row(f"{direction.label}, {verifier} {kind} less generated, R@1", changes))
        for first, second in combinations(metrics[0]["verifiers"], 2):
            if all(one["verifier"] in (first, second) for one in metrics):
                changes = [_less(one, direction, first, second) for one in metrics]
                rows.append(gain_row(f"{direction.label}, {first} less {second}, R@1", changes))
    return rows


def _less(metrics: dict[str, Any], direction: Direction, first: str, second: str) -> dict[str, float]:
    """Return how far a verifier's final R@1 is above another's, one of which was chosen."""
    if metrics["verifier"] == second:
        return metrics["verifiers_less_chosen"][first][direction]["R@1"]
    change = metrics["verifiers_less_chosen"][second][direction]["R@1"]
    return {"mean": -change["mean"], "low": -change["high"], "high": -change["low"]}


def gain_row(name: str, changes: Sequence[dict[str, float]]) -> Row:
    """Return a row of the mean of paired differences; its note has the mean's 95 % interval, and each seed's.

    The seeds' queries are different ones, so the variances of the differences add up.
    """
    seeds = [f"{one['mean']:+.1f} ({one['low']:+.1f} to {one['high']:+.1f})" for one in changes]
    mean, count = fmean(one["mean"] for one in changes), len(changes)
    half = hypot(*((one["high"] - one["low"]) / 2 for one in changes)) / count
    note = f"95 %: {mean - half:+.1f} to {mean + half:+.1f}; {count} seed{'s' * (count > 1)}: {', '.join(seeds)}"
    return Row(name, round(mean, 2), None, None, "percent", note)


def closing_rows(metrics: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the gain of verification in R@1 as a percentage of the generator's gap between R@1 and R@10."""
    rows = []
    for direction in Direction:
        name = direction.label
        shares = []
        for one in metrics:
            generated, verified = one[direction]["generated"], one[direction]["verified"]
            shares.append(100 * (verified["R@1"] - generated["R@1"]) / (generated["R@10"] - generated["R@1"]))
        rows.append(mean_row(f"{name}, closed by verification", shares))
        for ablation in metrics[0]["ablations"]:
            values = [one["ablations"][ablation][direction]["R@1"] for one in metrics]
            rows.append(mean_row(f"{name}, {ablation.replace('_', ' ')}, R@1", values))
    return rows


def cost_rows(stages: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the first seed's seconds of every stage, the others' in the note, and the peak memory.

    The first seed can be measured with nothing beside it; the others take a quarter of an hour each.
    """
    rows = []
    for name in STAGES:
        rows.append(_seconds_row(f"{name}, seconds", [one[name]["seconds"] for one in stages]))
        peaks = [one[name]["peak_memory_bytes"] / 1e9 for one in stages]
        rows.append(mean_row(f"{name}, peak memory a process, GB", peaks, unit="GB"))
    totals = [sum(one[name]["seconds"] for name in STAGES) for one in stages]
    return [*rows, _seconds_row("all stages, seconds", totals)]


def _seconds_row(name: str, values: Sequence[float]) -> Row:
    note = f"seed 0's; of all {len(values)} seeds: " + ", ".join(f"{value:.4g}" for value in values)
    return Row(name, round(values[0], 2), None, None, "s", note)


def mean_row(name: str, values: Sequence[float], peer: float | None = None, unit: str = "percent") -> Row:
    """Return a row of the mean over seeds, with each seed's value in the note."""
    note = f"{len(values)} seeds: " + ", ".join(f"{value:.4g}" for value in values)
    mean = fmean(values)
    if peer is None:
        return Row(name, round(mean, 2), None, None, unit, note)
    return Row(name, round(mean, 2), round(peer, 2), round(mean / peer, 3), unit, note)


if __name__ == "__main__":
    run_command(main, Settings)
