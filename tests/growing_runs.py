"""A run whose identifiers were made from captions, so that items can be added to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from semcore.data.dataset import load_dataset
from semcore.data.new_images import NewImage
from semcore.data.run_folder import RunFolder
from semcore.runtime.files import write_jsonl
from tests.run_fixtures import NUM_CLUSTERS, SearchableRun

if TYPE_CHECKING:
    from semcore.retrieval.item_maker import ItemMaker


def count_letters(texts: list[str]) -> np.ndarray:
    """Embed texts without a model: (N, 26)."""
    return np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], np.float32)


@pytest.fixture(scope="session")
def finished_growing_run(finished_training: SearchableRun, tmp_path_factory: pytest.TempPathFactory) -> SearchableRun:
    """The run that `growing_run` is copied from; not to be changed."""
    from data_prep import identifiers
    from semcore.models.lineage import made_from, write_lineage

    run = RunFolder(shutil.copytree(finished_training.run, tmp_path_factory.mktemp("growing") / "run"))
    dataset = load_dataset(finished_training.data)
    captions = [{"image_id": own.image_id, "caption": own.sentences[0].text} for own in dataset.images]
    write_jsonl(run / "captions.jsonl", captions)
    shutil.rmtree(run / "identifiers")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(identifiers, "load_encoder", lambda name, device: count_letters)
        identifiers.main(identifiers.Settings(run.path, num_clusters=NUM_CLUSTERS, num_cluster_words=1, num_keywords=3))
    for model in ("identifier_model", "verifier_model"):
        write_lineage(run / model, made_from(run, dataset))
    return SearchableRun(finished_training.data, run.path, finished_training.base)


@pytest.fixture
def growing_run(finished_growing_run: SearchableRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchableRun:
    """A copy of the run that a test may change; letters are counted instead of loading an encoder."""
    from semcore.retrieval import item_maker

    monkeypatch.setattr(item_maker, "load_encoder", lambda name, device: count_letters)
    shutil.copytree(finished_growing_run.run, tmp_path / "run")
    return SearchableRun(finished_growing_run.data, tmp_path / "run", finished_growing_run.base)


@pytest.fixture
def maker(growing_run: SearchableRun) -> ItemMaker:
    """What makes its items."""
    from semcore.retrieval.item_maker import ItemMaker

    return ItemMaker.open(growing_run.run, dtype="float32", device="cpu")


@pytest.fixture
def new_images(tmp_path: Path) -> list[NewImage]:
    """Three pictures: one with two sentences, one with one, one with none; all with their captions."""
    said: list[tuple[str, ...]] = [("a huge red ring", "a ring, and it is red"), ("a blue star",), ()]
    captions = ("there is a red ring", "a small blue star", "a green square in the corner")
    return [
        NewImage(f"new-{number}", draw(tmp_path / f"new-{number}.png", number), own, caption)
        for number, (own, caption) in enumerate(zip(said, captions, strict=True))
    ]


def draw(path: Path, number: int, **changes: Any) -> Path:
    """Draw a picture that no other number has."""
    picture = Image.new("RGB", (32, 32), changes.get("colour", "white"))
    ImageDraw.Draw(picture).ellipse((number, number, 12 + number, 12 + number), fill="red")
    picture.save(path)
    return path
