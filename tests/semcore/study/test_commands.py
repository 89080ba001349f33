"""The jobs of a study: stages that do not differ run once, in an order that works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from semcore.data.run_folder import RunFolder
from semcore.data.stages import STAGE_OUTPUTS
from semcore.study.commands import Owner, WorkDir, command_of, jobs_of, measured_run, owners_of
from semcore.study.definition import Study, read_study

VARIANTS: list[dict[str, Any]] = [
    {"name": "full"},
    {"name": "unverified", "ranking": "unverified"},
    {"name": "beams", "evaluate": {"num_beams": 3}},
    {"name": "words", "identifiers": {"num_keywords": 2}},
    {"name": "words_beams", "identifiers": {"num_keywords": 2}, "evaluate": {"num_beams": 3}},
]


def study_of(tmp_path: Path, **changes: Any) -> Study:
    (tmp_path / "base.yaml").write_text("{}")
    stages = ["caption", "identifiers", "train_identifier", "evaluate"]
    content = {"title": "t", "base": "base.yaml", "stages": stages, "variants": VARIANTS, "scenes": {"train": 4}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**content, **changes}))
    return read_study(tmp_path / "study.yaml")


def words(command: list[str]) -> dict[str, str]:
    return {word.lstrip("-"): command[n + 1] for n, word in enumerate(command) if word.startswith("--")}


def test_a_stage_is_run_for_the_first_variant_that_has_it(tmp_path: Path) -> None:
    owners = owners_of(study_of(tmp_path), WorkDir(tmp_path))
    by_name = {here.variant: [owner.variant for owner in stages.values()] for here, stages in owners.items()}
    assert by_name == {
        "full": ["full"] * 4,
        "unverified": ["full"] * 4,
        "beams": ["full", "full", "full", "beams"],
        "words": ["full", "words", "words", "words"],
        "words_beams": ["full", "words", "words", "words_beams"],
    }


def test_what_does_not_differ_is_measured_in_anothers_run(tmp_path: Path) -> None:
    study, work = study_of(tmp_path), WorkDir(tmp_path)
    assert measured_run(study, work, 0, study.variant("unverified")) == tmp_path / "seed-0" / "full"
    assert measured_run(study, work, 0, study.variant("beams")) == tmp_path / "seed-0" / "beams"


def test_one_dataset_is_described_once_for_all_seeds_and_drawn_scenes_for_each(tmp_path: Path) -> None:
    study = study_of(tmp_path, seeds=[0, 5])
    for data, seed in ((tmp_path / "data", 0), (None, 5)):
        owners = owners_of(study, WorkDir(tmp_path, data))
        assert owners[Owner(5, "full")]["caption"] == Owner(seed, "full")
        assert owners[Owner(5, "full")]["identifiers"] == Owner(5, "full")


def test_jobs_wait_for_the_stage_before_whoever_runs_it(tmp_path: Path) -> None:
    jobs = {job.name: job.after for job in jobs_of(study_of(tmp_path), WorkDir(tmp_path))}
    assert jobs["seed-0-scenes"] is None
    assert jobs["seed-0-full-caption"] == "seed-0-scenes"
    assert jobs["seed-0-words-identifiers"] == "seed-0-full-caption"
    assert jobs["seed-0-words_beams-evaluate"] == "seed-0-words-train_identifier"
    assert not any("unverified" in name for name in jobs)
    names = list(jobs)
    assert all(after is None or names.index(after) < names.index(name) for name, after in jobs.items())


def test_finished_stages_are_no_jobs_and_are_linked_where_they_are_needed(tmp_path: Path) -> None:
    study, work = study_of(tmp_path), WorkDir(tmp_path)
    run = RunFolder(work.run(Owner(0, "full")))
    for stage in ("caption", "identifiers", "train_identifier"):
        opened = run.open_stage(stage, {}, {}, tmp_path)
        output = run / STAGE_OUTPUTS[stage][0]
        output.mkdir() if stage != "caption" else output.write_text("{}")
        opened.finish()
    (tmp_path / "seed-0" / "data").mkdir()
    (tmp_path / "seed-0" / "data" / "dataset.json").write_text("{}")
    jobs = {job.name: job for job in jobs_of(study, work)}
    assert "seed-0-full-caption" not in jobs and jobs["seed-0-beams-evaluate"].after is None
    jobs["seed-0-beams-evaluate"].begin()
    assert (work.run(Owner(0, "beams")) / "identifier_model").resolve() == run / "identifier_model"


def test_the_seed_and_the_checkpoint_reach_the_stages_that_take_them(tmp_path: Path) -> None:
    study, work, here = study_of(tmp_path, model="some/model", seeds=[7]), WorkDir(tmp_path), Owner(7, "full")
    assert words(command_of(study, work, here, "identifiers"))["seed"] == "7"
    assert words(command_of(study, work, here, "train_identifier"))["training.seed"] == "7"
    assert words(command_of(study, work, here, "train_identifier"))["model.base"] == "some/model"
    assert words(command_of(study, work, here, "caption"))["model"] == "some/model"
    assert "seed" not in words(command_of(study, work, here, "evaluate"))


@pytest.mark.parametrize(
    ("stage", "launched"), [("identifiers", False), ("train_identifier", True), ("evaluate", True)]
)
def test_a_launcher_starts_trainings_and_evaluations(tmp_path: Path, stage: str, launched: bool) -> None:
    launcher = tmp_path / "zero1.yaml"
    launcher.write_text("num_processes: 1")
    command = command_of(study_of(tmp_path), WorkDir(tmp_path, None, launcher), Owner(0, "full"), stage)
    assert (command[:4] == ["accelerate", "launch", "--config_file", str(launcher)]) == launched
