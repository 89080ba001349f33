"""Run the whole pipeline on drawn scenes, on a CPU.

    semcore quickstart --out runs/quickstart
    semcore quickstart --out runs/seed-1 --seed 1 --train 700 --test 250

Every step is the command a user would type, started as a process of its own and shown before it
starts. The steps themselves know what is done: a second run skips it, a killed run goes on.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from semcore.commands.env import extensions_folder, missing_for_quickstart
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction, DirectionName, named_directions
from semcore.data.run_folder import RunFolder
from semcore.report.tables import stage_rows
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, writing_to
from semcore.runtime.packaged_files import asset_folder, resource_folder
from semcore.runtime.subprocesses import Step, run_step, step_environment
from semcore.runtime.typed_commands import command, data_command, launcher_options, read_launcher, typed

MIN_FREE_BYTES = 2 * 1024**3  # the dataset, two models and the trainings' last checkpoints, with a margin
METRICS = ("R@1", "R@5", "R@10", "rSum")


@dataclass
class QuickstartSettings:
    """What `semcore quickstart` takes."""

    out: Path
    """The run folder; the scenes go into its folder data."""
    seed: int = 0
    """Of the scenes, the clusters and the trainings."""
    train: int = 2000
    """Number of scenes to train on."""
    val: int = 200
    """Number of scenes to choose settings on."""
    test: int = 500
    """Number of scenes to measure on."""
    directions: list[DirectionName] | None = None
    """What is searched, [t2i] say; by default what the settings say, or both."""
    config: Path | None = None
    """The settings of every stage; by default recipes/configs/scenes.yaml."""
    launcher: Path | None = None
    """The accelerate configuration of the trainings; by default ds_configs/cpu_zero2.yaml."""

    def __post_init__(self) -> None:
        for name, least in (("train", 1), ("val", 1), ("test", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} takes a whole number from {least} on, found {getattr(self, name)}")
        if self.directions is not None:
            self.directions = [direction.value for direction in named_directions(self.directions)]


def main(settings: QuickstartSettings) -> None:
    """Run the pipeline, then show its scores, the cost of each stage, and next commands."""
    console = Console(highlight=False)
    _check_parts(settings)
    started = time.monotonic()
    with RunFolder(settings.out).lock("quickstart"):
        _check_space(settings.out)
        steps = plan(settings)
        for number, step in enumerate(steps, start=1):
            console.rule(f"[bold]{number}/{len(steps)}[/bold] {step.title}", align="left")
            console.out(f"$ {shlex.join(step.command)}", highlight=False)
            _leave_unless_done(_run(step, settings), step, console)
    console.rule(f"done in {(time.monotonic() - started) / 60:.1f} minutes", align="left")
    show_summary(settings, console)


def plan(settings: QuickstartSettings) -> list[Step]:
    """Return the commands in their order."""
    data, run, seed = typed(settings.out / "data"), typed(settings.out), str(settings.seed)
    where = ["--config", typed(config_file(settings)), "--data", data, "--run", run]
    counts = [f"--{name}={getattr(settings, name)}" for name in ("train", "val", "test")]
    model = str(asset_folder("scenes_base"))
    launch = ["accelerate", "launch", *launcher_options(launcher_file(settings))]
    recipes = resource_folder("recipes")
    seeded = ["--model.base", model, "--training.seed", seed]
    only = ["--directions", f"[{','.join(settings.directions)}]"] if settings.directions is not None else []
    return [
        Step("Draw scenes", [*_module("make_scenes"), "--out", data, *counts, "--seed", seed]),
        Step("Let the model describe every picture", [*_module("caption"), *where, "--model", model]),
        Step("Make identifiers of the descriptions", [*_module("identifiers"), *where, "--seed", seed]),
        Step(
            "Teach the model to generate identifiers",
            [*launch, typed(recipes / "train_identifier.py"), *where, *seeded, *only],
        ),
        Step("Mine candidates for the verifier", [*_module("candidates"), *where, "--seed", seed]),
        Step(
            "Teach the model to verify candidates",
            [*launch, typed(recipes / "train_verifier.py"), *where, "--training.seed", seed],
        ),
        Step("Search, verify, measure, report", [*launch, typed(recipes / "evaluate.py"), *where]),
    ]


def config_file(settings: QuickstartSettings) -> Path:
    """Return the file that holds every stage's settings."""
    return settings.config or resource_folder("recipes") / "configs" / "scenes.yaml"


def launcher_file(settings: QuickstartSettings) -> Path:
    """Return the accelerate configuration of the trainings."""
    return settings.launcher or resource_folder("ds_configs") / "cpu_zero2.yaml"


def environment_of(step: Step, settings: QuickstartSettings) -> dict[str, str]:
    """Return the environment of a step: no network, and no more threads than cores."""
    environment = step_environment(_threads_per_process(settings) if step.command[0] == "accelerate" else None)
    environment.setdefault("HF_HUB_OFFLINE", "1")  # everything that the scenes need is installed
    if extensions_folder().is_relative_to(sys.prefix):
        environment["TORCH_EXTENSIONS_DIR"] = str(extensions_folder())
    return environment


def show_summary(settings: QuickstartSettings, console: Console) -> None:
    """Print what was measured, from the run folder's files."""
    run = RunFolder(settings.out)
    console.print(_score_table(read_json(run / "metrics.json")))
    console.print(_cost_table(run.manifest()))
    sentence = load_dataset(settings.out / "data").split("test")[0].sentences[0].text
    console.print("\nThree things to try next:\n")
    for what, line in (
        ("search", command("semcore", "search", "--run", settings.out, sentence)),
        ("read the report, with pictures of what was found and what was missed", command(settings.out / "report.html")),
        ("bring your own pictures", data_command("from_imagefolder", "--images", "DIR", "--out", "data/mine")),
    ):
        console.out(f"  {what}\n    {line}", highlight=False)


def _score_table(metrics: dict[str, Any]) -> Table:
    """Return the scores of metrics.json, each verifier alone and fused, and the ceiling."""
    title = (
        f"{metrics.get('split', 'test')} scenes, percent; {metrics['num_beams']} beams; verified: fused with the "
        "generator's score by weights from val; * the verifier that was better on val"
    )
    table = Table("", *METRICS, title=title, title_justify="left")
    for direction in (own for own in Direction if own in metrics):
        name = direction.label
        rows = {f"{name}, generated": metrics[direction]["generated"]}
        for verifier, scores in metrics["verifiers"].items():
            if own := metrics.get("verifiers_alone", {}).get(verifier):
                rows[f"{name}, {verifier} alone"] = own[direction]
            mark = " *" if verifier == metrics["verifier"] else ""
            rows[f"{name}, verified ({verifier}){mark}"] = scores[direction]
        if direction in metrics.get("ceiling", {}):
            rows[f"{name}, ceiling"] = metrics["ceiling"][direction]
        for label, scores in rows.items():
            table.add_row(label, *(f"{scores[metric]:.1f}" if metric in scores else "" for metric in METRICS))
        table.add_section()
    return table


def _cost_table(manifest: dict[str, Any]) -> Table:
    """Return the cost of every stage, from manifest.json."""
    table = Table("stage", "seconds", "peak memory a process", "processes", "engine", "loss", title_justify="left")
    for row in stage_rows(manifest):
        seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
        memory = "" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 1e9:.1f} GB"
        table.add_row(row.name, seconds, memory, str(row.num_processes or ""), row.engine, row.loss)
    return table


def _check_parts(settings: QuickstartSettings) -> None:
    for part in missing_for_quickstart():
        raise UserError(f"{part.what} is missing, which {part.needed_for} needs; get it with: {part.get_it}")
    for path in (config_file(settings), launcher_file(settings)):
        if not path.is_file():
            raise UserError(f"there is no file {path}; `semcore init DIR` writes a fresh set")


def _check_space(out: Path) -> None:
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if free < MIN_FREE_BYTES:
        raise UserError(
            f"the disk of {out} has {free / 1e9:.1f} GB free, and the quickstart needs {MIN_FREE_BYTES / 1e9:.1f} GB; "
            "free some, or choose another --out"
        )


def _run(step: Step, settings: QuickstartSettings) -> int:
    try:
        return run_step(step, environment_of(step, settings))
    except KeyboardInterrupt:
        return -signal.SIGINT


def _leave_unless_done(code: int, step: Step, console: Console) -> None:
    """Exit with the step's own code, or a shell's code for a signal; the step has printed its error."""
    if code == 0:
        return
    if code != 2:
        how = f"was stopped by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        console.print(f"\n{step.title}: {how}. The same quickstart command goes on from here.")
    raise SystemExit(code if code > 0 else 128 - code)


def _module(name: str) -> list[str]:
    return ["python", "-m", f"data_prep.{name}"]


def _threads_per_process(settings: QuickstartSettings) -> int:
    return max(1, len(os.sched_getaffinity(0)) // int(read_launcher(launcher_file(settings)).get("num_processes", 1)))
