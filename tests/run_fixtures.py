"""A run folder as far as training leaves it, with a tiny random model in every role, to search and to measure.

What needs torch is imported when a test first asks for it.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from semcore.data.dataset import load_dataset
from semcore.data.identifier_files import make_row
from semcore.data.run_folder import RunFolder
from semcore.runtime.files import write_json, write_jsonl

if TYPE_CHECKING:
    from semcore.models.checkpoint import Checkpoint

NUM_CLUSTERS = 3
HELD_OUT = {"sentences_per_image": 1, "image_fraction": 0.5, "seed": 0}


@dataclass(frozen=True)
class SearchableRun:
    """The dataset (12 train, 4 val, 6 test scenes), the run folder, and the checkpoint that "wrote" its captions."""

    data: Path
    run: Path
    base: Path


@pytest.fixture(scope="session")
def lively_checkpoint(pristine_checkpoint: Checkpoint) -> Checkpoint:
    """The tiny checkpoint with larger random weights: what it says depends on what it is shown."""
    import torch

    checkpoint = copy.deepcopy(pristine_checkpoint)
    generator = torch.Generator().manual_seed(1)
    for parameter in checkpoint.model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return checkpoint


@pytest.fixture(scope="session")
def finished_training(lively_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> SearchableRun:
    """The run that `searchable_run` is copied from; not to be changed."""
    from data_prep.make_scenes import Settings as ScenesSettings
    from data_prep.make_scenes import main as make_scenes
    from semcore.models.cluster_tokens import add_cluster_tokens
    from semcore.models.lineage import made_from, write_lineage
    from semcore.models.run_lineage import prompts_of
    from semcore.runtime.fingerprints import fingerprint

    folder = tmp_path_factory.mktemp("searchable")
    make_scenes(ScenesSettings(folder / "data", train=12, val=4, test=6, seed=3))
    save(lively_checkpoint, folder / "base")
    run = RunFolder(folder / "run")
    write_identifiers(run, folder / "data")
    save(lively_checkpoint, run / "verifier_model")
    generator = copy.deepcopy(lively_checkpoint)
    add_cluster_tokens(generator, NUM_CLUSTERS, [["red"], ["blue"], ["star"]])
    save(generator, run / "identifier_model")
    for name in ("generator", "listwise"):
        model = run / ("identifier_model" if name == "generator" else "verifier_model")
        write_json(model / "prompts.json", prompts_of([name]))
        write_lineage(model, made_from(run, load_dataset(folder / "data")))
    settings: dict[str, dict[str, Any]] = {
        "caption": {"model": str(folder / "base")},
        "train_identifier": {
            "held_out": HELD_OUT,
            "model": {"base": str(folder / "base")},
            "training": {},
            "lora": {},
        },
    }
    content = fingerprint(folder / "base")
    for stage, own in settings.items():
        place = "model" if stage == "caption" else "model.base"
        inputs = {"the model" if stage == "caption" else "the checkpoint": content}
        run.open_stage(stage, own, inputs, folder / "data", {place: content}).finish()
    return SearchableRun(folder / "data", run.path, folder / "base")


@pytest.fixture
def searchable_run(finished_training: SearchableRun, tmp_path: Path) -> SearchableRun:
    """A copy of the run that a test may change; the dataset and the base are shared."""
    shutil.copytree(finished_training.run, tmp_path / "run")
    return SearchableRun(finished_training.data, tmp_path / "run", finished_training.base)


def write_identifiers(run: RunFolder, data: Path) -> None:
    """Give every image and sentence a cluster and two words; the first two test images share theirs."""
    records = load_dataset(data).images
    test = [record.image_id for record in records if record.split == "test"]
    images, sentences = [], []
    for number, record in enumerate(records):
        same = test[0] if record.image_id == test[1] else record.image_id
        words = next(r for r in records if r.image_id == same).sentences[0].text.rstrip(".").split()[-2:]
        images.append(make_row(record.image_id, record.split, len(words[0]) % NUM_CLUSTERS, words))
        for place, sentence in enumerate(record.sentences):
            words = sentence.text.rstrip(".").split()[-2:]
            sentences.append(make_row(sentence.sentence_id, record.split, (number + place) % NUM_CLUSTERS, words))
    write_jsonl(run / "identifiers" / "t2i.jsonl", images)
    write_jsonl(run / "identifiers" / "i2t.jsonl", sentences)
    write_json(run / "identifiers" / "report.json", {"protocol": "inductive"})


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Save a checkpoint as a folder."""
    for part in (checkpoint.model, checkpoint.tokenizer, checkpoint.image_processor):
        part.save_pretrained(folder)
