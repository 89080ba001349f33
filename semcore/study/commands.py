"""The commands that a study types, as jobs: a seed's full system first, then the variants that share its results.

OUT/seed-N/data        the drawn scenes
OUT/seed-N/full        the full system's run folder
OUT/seed-N/<variant>   a variant's; stages that do not differ are links to the full system's
OUT/embeddings         of captions and sentences, for all variants
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semcore.files import read_json
from semcore.resources import asset_folder, resource_folder
from semcore.steps import Step
from semcore.study.jobs import Job
from semcore.study.sharing import finished, share_run
from semcore.study.variants import FULL, Variant

TITLES = {
    "caption": "captions", "identifiers": "identifiers", "train_identifier": "training", "evaluate": "evaluation",
}  # fmt: skip
_EVALUATION = {"verifier": "likelihood", "ablations": False}


@dataclass(frozen=True)
class Place:
    """Where a study lies, and what all its variants have in common.

    Attributes:
        out: its folder.
        config: the settings of every stage.
        scenes: "train", "val" and "test" -> how many.
        training: options of the identifier training.
        evaluate: options of the evaluation, which a variant's win over.
    """

    out: Path
    config: Path
    scenes: Mapping[str, int]
    training: Mapping[str, Any]
    evaluate: Mapping[str, Any]

    def data(self, seed: int) -> Path:
        """Return a seed's dataset folder."""
        return self.out / f"seed-{seed}" / "data"

    def run(self, seed: int, variant: str) -> Path:
        """Return the run folder of a variant."""
        return self.out / f"seed-{seed}" / variant


def jobs_of(place: Place, seeds: Sequence[int], variants: Sequence[Variant]) -> list[Job]:
    """Return the jobs that are not done: the full systems first, so that nobody waits for them."""
    chosen = [(seed, variant) for seed in seeds for variant in variants if variant.has_run]
    chosen.sort(key=lambda pair: pair[1].name != FULL)
    left = [(seed, variant) for seed, variant in chosen if not finished(place.run(seed, variant.name), "evaluate")]
    names = {_name(seed, variant.name) for seed, variant in left}
    return [_job(place, seed, variant, names) for seed, variant in left]


def steps_of(place: Place, seed: int, variant: Variant) -> list[Step]:
    """Return the commands of a variant whose stages are not finished."""
    run, data = place.run(seed, variant.name), place.data(seed)
    share_run(place.run(seed, FULL), run, variant.shared)
    where = ["--config", str(place.config), "--data", str(data), "--run", str(run)]
    base, recipes = str(asset_folder("scenes_base")), resource_folder("recipes")
    identifiers = {"seed": seed, "embeddings": place.out / "embeddings", **variant.identifiers}
    training = {"model.base": base, "training.seed": seed, **place.training}
    evaluate = {**_EVALUATION, **place.evaluate, **variant.evaluate}
    commands = {
        "caption": ["python", "-m", "data_prep.caption", *where, "--model", base],
        "identifiers": ["python", "-m", "data_prep.identifiers", *where, *_options(identifiers)],
        "train_identifier": ["python", str(recipes / "train_identifier.py"), *where, *_options(training)],
        "evaluate": ["python", str(recipes / "evaluate.py"), *where, *_options(evaluate)],
    }
    steps = [Step(TITLES[stage], command) for stage, command in commands.items() if not finished(run, stage)]
    return steps if (data / "dataset.json").exists() else [_draw(place, seed), *steps]


def seconds_of(run: Path, stages: Sequence[str]) -> float:
    """Return what stages of a run took."""
    entries = read_json(run / "manifest.json")["stages"]
    return sum(entries[stage]["seconds"] for stage in stages)


def _job(place: Place, seed: int, variant: Variant, names: set[str]) -> Job:
    first = _name(seed, FULL)
    after = first if variant.shared and first in names else None
    return Job(_name(seed, variant.name), lambda: steps_of(place, seed, variant), after)


def _name(seed: int, variant: str) -> str:
    return f"seed-{seed}-{variant}"


def _draw(place: Place, seed: int) -> Step:
    options = _options({**place.scenes, "seed": seed})
    return Step("scenes", ["python", "-m", "data_prep.make_scenes", "--out", str(place.data(seed)), *options])


def _options(values: Mapping[str, Any]) -> list[str]:
    """Return {"a_b": True} as ["--a_b", "true"]."""
    return [word for name, value in values.items() for word in (f"--{name}", _typed(value))]


def _typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
