"""Commands of a study as jobs: one per stage of a variant, and none for a stage that another variant has done.

OUT/seed-N/data        the drawn scenes, where no dataset is given
OUT/seed-N/VARIANT     a variant's run folder; stages that do not differ are links to the run that made them
OUT/embeddings         embeddings of captions and sentences, for all variants

A stage is the same for two variants if its settings, its seed, its data and all stages before it are: it is run for
the first of them. A variant without a stage that differs has no run of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from semcore.runtime.files import hash_of, read_json
from semcore.runtime.packaged_files import asset_folder, resource_folder
from semcore.runtime.settings import option
from semcore.runtime.subprocesses import Step
from semcore.runtime.typed_commands import launcher_options
from semcore.study.definition import Study, Variant
from semcore.study.linked_stages import finished, share_run
from semcore.study.parallel_jobs import Job

TITLES = {
    "caption": "captions", "identifiers": "identifiers", "train_identifier": "training", "candidates": "candidates",
    "train_ranking": "training of the ranking", "train_verifier": "training of the verifier",
    "train_verifier_blocks": "training of the verifier in blocks", "evaluate": "evaluation",
}  # fmt: skip
# The setting of each stage that takes the seed.
SEEDS = {
    "identifiers": "seed", "train_identifier": "training.seed", "train_ranking": "training.seed", "candidates": "seed",
    "train_verifier": "training.seed", "train_verifier_blocks": "training.seed",
}  # fmt: skip
RECIPES = {
    "train_identifier": "train_identifier.py", "train_ranking": "train_ranking.py",
    "train_verifier": "train_verifier.py", "train_verifier_blocks": "train_verifier.py", "evaluate": "evaluate.py",
}  # fmt: skip


class Owner(NamedTuple):
    """The seed and the name of the variant for which a stage is run."""

    seed: int
    variant: str


@dataclass(frozen=True)
class WorkDir:
    """Paths of a study.

    Attributes:
        out: its folder.
        data: the dataset of all seeds; None where scenes are drawn for each seed.
        launcher: the accelerate configuration of trainings and evaluation; None starts each as one process.
    """

    out: Path
    data: Path | None = None
    launcher: Path | None = None

    def dataset(self, seed: int) -> Path:
        """Return the dataset folder of a seed."""
        return self.data or self.out / f"seed-{seed}" / "data"

    def run(self, owner: Owner) -> Path:
        """Return a run folder."""
        return self.out / f"seed-{owner.seed}" / owner.variant


def owners_of(study: Study, work: WorkDir) -> dict[Owner, dict[str, Owner]]:
    """Return (seed, variant) -> stage -> the seed and variant for which it is run."""
    first: dict[str, Owner] = {}
    owners: dict[Owner, dict[str, Owner]] = {}
    for seed in study.seeds:
        for variant in [study.variant(study.reference), *study.variants]:
            here = Owner(seed, variant.name)
            key, own = hash_of(str(work.dataset(seed)), study.model), {}
            for stage in study.stages_of(variant):
                key = hash_of(key, stage, study.resolve(variant, stage), seed if stage in SEEDS else None)
                own[stage] = first.setdefault(key, here)
            owners.setdefault(here, own)
    return owners


def measured_run(study: Study, work: WorkDir, seed: int, variant: Variant) -> Path:
    """Return the run folder in which a variant is evaluated; it may be another variant's."""
    return work.run(owners_of(study, work)[Owner(seed, variant.name)]["evaluate"])


def own_stages(stages: Mapping[str, Owner], here: Owner) -> list[str]:
    """Return the stages that are run for a variant itself."""
    return [stage for stage, owner in stages.items() if owner == here]


def jobs_of(study: Study, work: WorkDir) -> list[Job]:
    """Return the jobs that are not done; each follows the one that it depends on."""
    owners = owners_of(study, work)
    jobs: list[Job] = []
    for seed in study.seeds if work.data is None else ():
        if not (work.dataset(seed) / "dataset.json").exists():
            jobs.append(_drawing(study, work, seed))
    for here, stages in owners.items():
        for stage in own_stages(stages, here):
            if not finished(work.run(here), stage):
                jobs.append(_job(study, work, here, stages, stage, {job.name for job in jobs}))
    return jobs


def command_of(study: Study, work: WorkDir, here: Owner, stage: str) -> list[str]:
    """Return the words that run one stage of a variant."""
    variant = study.variant(here.variant)
    where = ["--config", str(study.base), "--data", str(work.dataset(here.seed)), "--run", str(work.run(here))]
    settings = {**study.settings.get(stage, {}), **variant.overrides.get(stage, {})}
    if stage in SEEDS:
        settings.setdefault(SEEDS[stage], here.seed)
    if stage == "caption":
        settings.setdefault("model", study.model or str(asset_folder("scenes_base")))
    if stage == "identifiers":
        settings.setdefault("embeddings", work.out / "embeddings")
    if stage == "train_identifier":
        settings.setdefault("model.base", study.model or str(asset_folder("scenes_base")))
    if stage == "train_verifier_blocks":
        settings["attention"] = "blocks"
    return [*program(stage, work.launcher), *where, *options_of(settings)]


def drawing_command(study: Study, work: WorkDir, seed: int) -> list[str]:
    """Return the words that draw the scenes of a seed."""
    words = ["python", "-m", "data_prep.make_scenes", "--out", str(work.dataset(seed))]
    return [*words, *options_of({**(study.scenes or {}), "seed": seed})]


def options_of(values: Mapping[str, Any]) -> list[str]:
    """Return {"a_b": True} as ["--a-b", "true"]."""
    return [word for name, value in values.items() for word in (option(name), _typed(value))]


def program(stage: str, launcher: Path | None) -> list[str]:
    """Return the words that start a stage's command: a module of data_prep, or the file of a recipe."""
    if stage not in RECIPES:
        return ["python", "-m", f"data_prep.{stage}"]
    recipe = str(resource_folder("recipes") / RECIPES[stage])
    return ["python", recipe] if launcher is None else ["accelerate", "launch", *launcher_options(launcher), recipe]


def seconds_of(run: Path, stages: Sequence[str]) -> float:
    """Return the seconds that stages of a run took."""
    entries = read_json(run / "manifest.json")["stages"]
    return sum(entries[stage]["seconds"] for stage in stages)


def _job(study: Study, work: WorkDir, here: Owner, stages: Mapping[str, Owner], stage: str, waiting: set[str]) -> Job:
    before = list(stages)[: list(stages).index(stage)]
    earlier = _name(stages[before[-1]], before[-1]) if before else f"seed-{here.seed}-scenes"

    def begin() -> list[Step]:
        if before and stages[before[-1]] != here:
            share_run(work.run(stages[before[-1]]), work.run(here), before)
        return [Step(TITLES[stage], command_of(study, work, here, stage))]

    return Job(_name(here, stage), begin, earlier if earlier in waiting else None)


def _drawing(study: Study, work: WorkDir, seed: int) -> Job:
    step = Step("scenes", drawing_command(study, work, seed))
    return Job(f"seed-{seed}-scenes", lambda: [step])


def _name(owner: Owner, stage: str) -> str:
    return f"seed-{owner.seed}-{owner.variant}-{stage}"


def _typed(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_typed, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
