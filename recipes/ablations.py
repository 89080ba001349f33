"""Run the paper's ablation family on drawn scenes, on a CPU (paper, Tables 3 and 5, Figure 3).

Run as:

    python -m recipes.ablations --on scenes --out RUNS
    python -m recipes.ablations --on scenes --out RUNS --seeds 1 --train 200 --val 40 --test 60    # to look how it goes

Measures the full system; without verification, SID, global id, deduplication and constraint; 10 to 50 beams; and
clusters x keywords around the full system's. Verification is by likelihood, fused with the generator's score by weights
from val: so small a model does not learn to choose by letter (LOG.md). Table 4's backbones need real checkpoints and
are left out. Variants share what does not differ: scenes, captions, images as the model sees them, embeddings; beams,
verification and constraint share one trained generator. Each core has a variant of its own. Writes into RUNS

    ablations.json             scores, differences with 95 % intervals, whether the order is the paper's
    ablations.md               the same to read, with plots where matplotlib is installed
    seed-N/VARIANT             every variant's run folder      logs/     what the commands print

A killed study goes on where it stopped, and what is finished is not done again.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data_prep.identifiers import Settings as IdentifierSettings
from semcore.commandline import parse, run_command
from semcore.configfile import read_yaml
from semcore.errors import UserError
from semcore.machine import describe_measurement
from semcore.resources import resource_folder
from semcore.runfolder import RunFolder
from semcore.settings import at_least, hash_of
from semcore.steps import step_environment
from semcore.study.commands import Place, jobs_of
from semcore.study.findings import findings_of
from semcore.study.folder import begin_study, write_study
from semcore.study.jobs import StepFailed, run_jobs
from semcore.study.plots import can_draw
from semcore.study.variants import STAGES, Variant, family


@dataclass
class Settings:
    out: Path
    """Folder of the study."""
    on: Literal["scenes"] = "scenes"
    """What to measure on; the built-in scenes are what there is everywhere."""
    seeds: int = 3
    """Seeds 0, 1, ... of scenes, clusters and trainings."""
    train: int = 1000  # ours: half of the quickstart's, so that all variants take about an hour
    """Number of scenes to train on."""
    val: int = 100  # ours
    """Number of scenes to weigh the verifier on."""
    test: int = 300  # ours
    """Number of scenes to measure on."""
    queries: int = 500  # ours
    """Queries a direction to measure with, drawn at random where there are more; all scenes are searched."""
    val_queries: int = 200  # ours: two numbers are fitted
    """Queries a direction to weigh the verifier with."""
    epochs: int = 3  # ours: the quickstart's
    """Passes over the training data."""
    num_beams: int = 20  # ours: the quickstart's; the paper's 50 cost twice as much
    """The full system's beams."""
    beams: list[int] = field(default_factory=lambda: [10, 20, 30, 40, 50])  # paper, Table 5
    """Widths to compare."""
    grid: list[tuple[int, int]] = field(
        default_factory=lambda: [(2, 4), (4, 4), (8, 4), (2, 8), (8, 8), (4, 12)]
    )  # ours: half and twice the full system's clusters, half and one and a half times its keywords, as in Figure 3
    """Clusters and keywords to compare with the full system's."""
    json: Path | None = None
    """File to save the findings in too."""
    jobs: int | None = None
    """Variants side by side; by default one a core."""
    config: Path | None = None
    """The settings of every stage; by default recipes/configs/scenes.yaml."""

    def __post_init__(self) -> None:
        at_least(1, self, "seeds", "train", "val", "test", "queries", "val_queries", "epochs", "num_beams", "jobs")
        if min([*self.beams, *(number for point in self.grid for number in point)], default=1) < 1:
            raise UserError(f"--beams and --grid take whole numbers from 1 on, found {self.beams} and {self.grid}")


def main(settings: Settings) -> None:
    identifiers = identifier_settings(settings)
    full = (identifiers.num_clusters, identifiers.num_keywords)
    variants = family(
        num_beams=settings.num_beams, num_clusters=full[0], num_keywords=full[1], beams=settings.beams,
        grid=settings.grid,
    )  # fmt: skip
    place, seeds = place_of(settings), range(settings.seeds)
    with RunFolder(settings.out).lock("study"):
        begin_study(settings.out, about(settings))
        work(settings, place, seeds, variants)
        known = {**about(settings), "num_clusters": full[0], "num_keywords": full[1], "num_seeds": len(seeds)}
        findings = findings_of(place, seeds, variants, settings.num_beams, full)
        write_study(settings.out, {"settings": known, **findings, **describe_measurement()}, settings.json)
    print(*(sentence for own in findings["statements"].values() for sentence in own), sep="\n")
    if not can_draw():
        print("ablations: no plots without matplotlib; pip install 'semcore[demo]' and type the same command again")
    print(f"ablations: see {settings.out / 'ablations.md'} and {settings.out / 'ablations.json'}")


def work(settings: Settings, place: Place, seeds: Sequence[int], variants: Sequence[Variant]) -> None:
    jobs, started = jobs_of(place, seeds, variants), time.monotonic()
    cores = len(os.sched_getaffinity(0))
    most = settings.jobs or cores
    print(f"ablations: {len(jobs)} variants to run, {most} side by side; logs in {settings.out / 'logs'}", flush=True)
    environment = {**step_environment(max(1, cores // most)), "HF_HUB_OFFLINE": "1", "TQDM_MININTERVAL": "10"}

    def say(sentence: str) -> None:
        print(f"{(time.monotonic() - started) / 60:6.1f} min  {sentence}", flush=True)

    try:
        run_jobs(jobs, most, environment, settings.out / "logs", say)
    except StepFailed as failure:
        sys.stderr.write("\n".join(failure.log.read_text(errors="replace").splitlines()[-5:]) + f"\n{failure}\n")
        sys.stderr.write("the same command again goes on from here\n")
        sys.exit(failure.code if failure.code > 0 else 1)


def place_of(settings: Settings) -> Place:
    scenes = {"train": settings.train, "val": settings.val, "test": settings.test}
    training = {"training.num_epochs": settings.epochs}
    evaluate = {"num_beams": settings.num_beams, "limit": settings.queries, "num_val_queries": settings.val_queries}
    return Place(settings.out.absolute(), config_file(settings), scenes, training, evaluate)


def config_file(settings: Settings) -> Path:
    return settings.config or resource_folder("recipes") / "configs" / "scenes.yaml"


def identifier_settings(settings: Settings) -> IdentifierSettings:
    """Return the full system's."""
    arguments = ["--run", str(settings.out), "--config", str(config_file(settings))]
    return parse(IdentifierSettings, arguments, "identifiers")


def about(settings: Settings) -> dict[str, Any]:
    """Return what all variants of a study have in common; of the configuration a hash of what they read."""
    chosen = ("on", "train", "val", "test", "queries", "val_queries", "epochs", "num_beams")
    read = hash_of([read_yaml(config_file(settings)).get(stage) for stage in STAGES])
    return {**{name: getattr(settings, name) for name in chosen}, "config": read}


if __name__ == "__main__":
    run_command(main, Settings)
