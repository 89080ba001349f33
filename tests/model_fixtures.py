"""A tiny native InternVL with random weights, for every test that needs a model.

The libraries are imported when a test first asks for it: most tests need none of them.
"""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

if TYPE_CHECKING:
    from semcore.models.checkpoint import Checkpoint

PROMPTS = Path(__file__).resolve().parent.parent / "prompts"


@pytest.fixture(scope="session")
def pristine_checkpoint() -> Checkpoint:
    """The checkpoint that `tiny_checkpoint` is copied from; not to be changed."""
    import torch

    from data_prep.scenes.pretraining.model import build_image_processor, build_model, build_tokenizer
    from semcore.models.checkpoint import Checkpoint

    with patch("data_prep.scenes.pretraining.model._texts", few_texts):
        tokenizer = build_tokenizer(PROMPTS, ["dog", "park", "street"])
    torch.manual_seed(0)
    model = build_model(tokenizer, text_layers=1, hidden_size=32)
    return Checkpoint(model.eval(), tokenizer, build_image_processor(), "tiny")


@pytest.fixture
def tiny_checkpoint(pristine_checkpoint: Checkpoint) -> Checkpoint:
    """A text model of one layer of width 32 and a vision tower of four layers; a test may change it."""
    return copy.deepcopy(pristine_checkpoint)


@pytest.fixture(scope="session")
def tiny_checkpoint_folder(pristine_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint as a folder."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    for part in (pristine_checkpoint.model, pristine_checkpoint.tokenizer, pristine_checkpoint.image_processor):
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def base(tiny_checkpoint_folder: Path, tmp_path: Path) -> Path:
    """A copy of that folder; a test may change it."""
    return shutil.copytree(tiny_checkpoint_folder, tmp_path / "base")


def few_texts(prompts: Path, english_words: list[str]) -> Iterator[str]:
    """What the tokenizer is trained on, in a second instead of a minute."""
    from data_prep.scenes.captions import describe, write_sentences
    from data_prep.scenes.pretraining.lesson_prompts import taught_prompts
    from data_prep.scenes.scene_graph import draw_scene

    rng = random.Random(0)
    for _ in range(150):
        scene = draw_scene(rng, "pretraining")
        yield describe(scene)
        yield from (text for text, _ in write_sentences(scene, 3, rng))
    for text in taught_prompts(prompts):
        yield from [text] * 20
    yield from ["user\n", "assistant\n", *"ABCDEFGHIJ", *english_words, *(f" {word}" for word in english_words)] * 20
