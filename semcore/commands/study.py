"""Run a study: variants of one configuration x seeds, and one table with intervals and paired tests.

    semcore study recipes/studies/ablations_scenes.yaml --out runs/ablations
    semcore study my_study.yaml --data data/mine --out runs/study --launcher ds_configs/zero1.yaml
    semcore study my_study.yaml --data data/mine --out runs/study --plan

STUDY.yaml names a base configuration, variants as overrides of any stage, seeds, and the paper's figures where there
are any; `semcore/study/definition.py` lists its keys, recipes/studies has examples. Stages that variants have in common
run once. Writes into OUT

    study.json  study.md     scores, paired differences, whether the order is the paper's; plots where matplotlib is
    seed-N/VARIANT           every variant's run folder
    logs/                    what the commands print

A killed study goes on where it stopped, and what is finished is not done again.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semcore.commands.arguments import require_minimum
from semcore.commands.study_options import check_options
from semcore.data.dataset import load_dataset
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.runtime.hardware import describe_measurement
from semcore.runtime.subprocesses import step_environment
from semcore.study.commands import WorkDir, command_of, drawing_command, jobs_of, own_stages, owners_of
from semcore.study.definition import Study, read_study
from semcore.study.files import begin_study, write_study
from semcore.study.markdown import render_study
from semcore.study.parallel_jobs import Job, StepFailed, run_jobs
from semcore.study.plots import can_draw
from semcore.study.summary import summarise


@dataclass
class StudySettings:
    """What `semcore study` takes."""

    study: Path
    """The study's YAML file."""
    out: Path
    """Folder of the study; the run folders go into it."""
    data: Path | None = None
    """The dataset folder of all seeds; without it the study's scenes are drawn, for each seed anew."""
    seeds: list[int] | None = None
    """Seeds instead of the study's, say [0] for a quick look."""
    plan: bool = False
    """Print the commands, and run none."""
    launcher: Path | None = None
    """An accelerate configuration for trainings and evaluations, say ds_configs/zero1.yaml; then one runs at a time."""
    jobs: int | None = None
    """Commands side by side; by default one a core, with a launcher one."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "jobs")
        if self.seeds is not None and (not self.seeds or min(self.seeds) < 0):
            raise UserError(f"--seeds takes whole numbers from 0 on, found {self.seeds}")
        if self.launcher is not None and not self.launcher.is_file():
            raise UserError(f"there is no {self.launcher}; --launcher takes an accelerate configuration")


def main(settings: StudySettings) -> None:
    """Run a study, or print its plan."""
    study = read_study(settings.study)
    study = replace(study, seeds=settings.seeds or study.seeds)
    work = work_dir(settings, study)
    check_options(study, work)
    if settings.plan:
        print_plan(study, work)
        return
    with RunFolder(settings.out).lock("study"):
        begin_study(settings.out, about(study, work))
        run_all(settings, study, work)
        findings = {**summarise(study, work), **describe_measurement()}
        write_study(settings.out, findings)
    sys.stdout.write(render_study(findings))
    if not can_draw():
        sys.stdout.write("study: no plots without matplotlib; pip install 'semcore[plots]' and type the same again\n")
    sys.stdout.write(f"study: see {settings.out / 'study.md'} and {settings.out / 'study.json'}\n")


def work_dir(settings: StudySettings, study: Study) -> WorkDir:
    """Return the study's paths.

    Raises:
        UserError: there is neither a dataset nor scenes to draw, or a dataset without a model.
    """
    launcher = settings.launcher.absolute() if settings.launcher else None
    if settings.data is None and study.scenes is None:
        raise UserError(f"{settings.study} draws no scenes: say which dataset with --data DATA")
    if settings.data is None:
        return WorkDir(settings.out.absolute(), None, launcher)
    captions = study.resolve(study.variant(study.reference), "caption")
    if study.model is None and not {"model", "server"} & captions.keys():
        raise UserError(f"{settings.study} names no model: add a line such as 'model: OpenGVLab/InternVL3-1B-hf'")
    load_dataset(settings.data)
    return WorkDir(settings.out.absolute(), settings.data.absolute(), launcher)


def print_plan(study: Study, work: WorkDir) -> None:
    """Print the commands in a valid order, and the shared stages (the study links their outputs)."""
    owners = owners_of(study, work)
    for seed in study.seeds if work.data is None else ():
        sys.stdout.write(f"{shlex.join(drawing_command(study, work, seed))}\n")
    for here, stages in owners.items():
        own = own_stages(stages, here)
        shared = [f"{stage} of {work.run(by).relative_to(work.out)}" for stage, by in stages.items() if by != here]
        sys.stdout.write(f"# seed {here.seed}, {here.variant}{': takes ' + ', '.join(shared) if shared else ''}\n")
        for stage in own:
            sys.stdout.write(f"{shlex.join(command_of(study, work, here, stage))}\n")
    left = len(jobs_of(study, work))
    sys.stdout.write(f"# {len(study.variants)} variants, {len(study.seeds)} seeds: {left} commands left to run\n")


def about(study: Study, work: WorkDir) -> dict[str, Any]:
    """Return what a study's folder belongs to: its data and model, and every variant's settings of every stage."""
    settings = {
        variant.name: {stage: study.resolve(variant, stage) for stage in study.stages_of(variant)}
        for variant in study.variants
    }
    data = load_dataset(work.data).fingerprint if work.data else None
    return {"title": study.title, "data": data, "scenes": study.scenes, "model": study.model, "variants": settings}


def run_all(settings: StudySettings, study: Study, work: WorkDir) -> None:
    """Run the remaining commands; a failed one ends the study with its exit code and the end of its log."""
    jobs, started = jobs_of(study, work), time.monotonic()
    cores = len(os.sched_getaffinity(0))
    most = settings.jobs or (1 if work.launcher else cores)
    environment = {**step_environment(max(1, cores // most)), "TQDM_MININTERVAL": "10"}
    if study.model is None:
        environment["HF_HUB_OFFLINE"] = "1"  # everything that the scenes need is installed
    sys.stdout.write(f"study: {len(jobs)} commands to run, {most} side by side; logs in {settings.out / 'logs'}\n")
    sys.stdout.flush()
    _run(jobs, most, environment, settings.out / "logs", started)


def _run(jobs: Sequence[Job], most: int, environment: dict[str, str], logs: Path, started: float) -> None:
    def say(sentence: str) -> None:
        sys.stdout.write(f"{(time.monotonic() - started) / 60:6.1f} min  {sentence}\n")
        sys.stdout.flush()

    try:
        run_jobs(jobs, most, environment, logs, say)
    except StepFailed as failure:
        sys.stderr.write("\n".join(failure.log.read_text(errors="replace").splitlines()[-5:]) + f"\n{failure}\n")
        sys.stderr.write("the same command again goes on from here\n")
        sys.exit(failure.code if failure.code > 0 else 1)
