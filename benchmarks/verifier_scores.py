"""All verifiers on the shortlists of finished quickstarts: scores, time, and order bias.

    python -m benchmarks.quickstart --out runs
    python -m benchmarks.verifier_scores --runs [runs/seed-0,runs/seed-1,runs/seed-2] --out runs/verifiers

Copies each run to OUT, trains the listwise verifier in candidate blocks too, and measures with `--verifier all`. The
peer of a recall is the generator's own order; seconds are those of all test queries of a direction, summed over
processes. What is done already is not done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quickstart import mean_row
from benchmarks.report import Row, publish
from semcore.commands.arguments import run_command
from semcore.data.directions import Direction
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from semcore.runtime.packaged_files import resource_folder
from semcore.runtime.subprocesses import Step, run_step, step_environment

MEASURED = ("t2i", "i2t", "data", "metrics.json", "verification.json", "report.md", "report.html", "report_images")
"""Entries that a copy leaves out: the results of the first evaluation, and the dataset, whose path the run has."""


@dataclass
class Settings:
    """What to measure."""

    runs: list[Path]
    """Finished runs of the quickstart."""
    out: Path
    """Folder of their copies."""
    json: Path | None = None
    """File to save the rows in."""

    def __post_init__(self) -> None:
        names = [run.name for run in self.runs]
        if not names or len(set(names)) < len(names):
            raise UserError(f"--runs takes folders of different names, one at least, found {names}")


def main(settings: Settings) -> None:
    """Measure the runs that are not done, and publish the rows."""
    metrics = []
    for run in settings.runs:
        copy = settings.out / run.name
        if not (copy / "metrics.json").exists():
            copy_run(run, copy)
            measure(copy)
        metrics.append(read_json(copy / "metrics.json"))
    publish([*score_rows(metrics), *second_rows(metrics), *order_rows(metrics)], settings.json)


def copy_run(run: Path, copy: Path) -> None:
    """Copy a run as it was before its evaluation; a copy that is there already is kept."""
    if not (run / "metrics.json").exists():
        raise UserError(f"{run} is no finished run; make it with: semcore quickstart --out {run}")
    if copy.exists():
        return
    half = copy.with_name(f".{copy.name}.incomplete")
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(run, half, ignore=shutil.ignore_patterns(*MEASURED))
    manifest = read_json(half / "manifest.json")
    del manifest["stages"]["evaluate"]
    write_json(half / "manifest.json", manifest)
    half.rename(copy)


def measure(run: Path) -> None:
    """Train the verifier in candidate blocks, and evaluate all of them."""
    seed = read_json(run / "manifest.json")["stages"]["train_verifier"]["settings"]["training"]["seed"]
    recipes = resource_folder("recipes")
    launcher = str(resource_folder("ds_configs") / "cpu_zero2.yaml")
    launch = ["accelerate", "launch", "--config_file", launcher]
    where = ["--config", str(recipes / "configs" / "scenes.yaml"), "--run", str(run)]
    blocks = ["--attention", "blocks", "--training.seed", str(seed)]
    for step in (
        Step("train", [*launch, str(recipes / "train_verifier.py"), *where, *blocks]),
        Step(
            "measure",
            [*launch, str(recipes / "evaluate.py"), *where, "--verifier", "all", "--order-bias-untrained", "true"],
        ),
    ):
        code = run_step(step, step_environment(num_threads=1))
        if code:
            raise SystemExit(code)


def score_rows(metrics: Sequence[dict[str, Any]]) -> list[Row]:
    """Return R@1 of every verifier, alone and fused with the generator, beside the generator's."""
    rows = []
    for direction in Direction:
        name = direction.label
        generated = [one[direction]["generated"]["R@1"] for one in metrics]
        for verifier in metrics[0]["verifiers"]:
            found = [one["verifiers"][verifier][direction]["R@1"] for one in metrics]
            if all("verifiers_alone" in one for one in metrics):
                alone = [one["verifiers_alone"][verifier][direction]["R@1"] for one in metrics]
                rows.append(mean_row(f"{name}, {verifier} alone, R@1", alone, sum(generated) / len(generated)))
            rows.append(mean_row(f"{name}, {verifier}, R@1", found, sum(generated) / len(generated)))
    return rows


def second_rows(metrics: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the seconds of every verifier; that of likelihood scores all pairs of test and val at once."""
    seconds = [one["seconds"] for one in metrics]
    rows = []
    for direction in Direction:
        name = direction.label
        for verifier in metrics[0]["verifiers"]:
            step = f"{verifier} {direction} test"
            if step in seconds[0]:
                rows.append(mean_row(f"{name}, {verifier}, seconds", [one[step] for one in seconds], unit="s"))
    for verifier in {"likelihood"} & metrics[0]["verifiers"].keys():
        values = [sum(taken for step, taken in one.items() if step.startswith(verifier)) for one in seconds]
        rows.append(mean_row(f"both directions and val, {verifier}, seconds", values, unit="s"))
    return rows


def order_rows(metrics: Sequence[dict[str, Any]]) -> list[Row]:
    """Return accuracy, its spread over the relevant item's position, and agreement under reshuffling."""
    rows = []
    for direction in Direction:
        name = direction.label
        for number, measured in enumerate(metrics[0]["order_bias"][direction]):
            for place, row in enumerate(measured["rows"]):
                model, shifts = measured["model"], row["shifts"]
                for figure in ("accuracy", "spread", "agreement"):
                    values = [one["order_bias"][direction][number]["rows"][place][figure] for one in metrics]
                    rows.append(mean_row(f"{name}, {model}, shifts {shifts}, {figure}", values))
    return rows


if __name__ == "__main__":
    run_command(main, Settings)
