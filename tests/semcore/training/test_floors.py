"""Floors: what any correct training reaches on a handful of examples, so that a bug is not taken for a small model.

A text model of two narrow layers, random weights, seconds: eight pairs are learnt by heart, and so is which
of two candidates answers a query, whatever their order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.make_scenes import Settings as ScenesSettings
from data_prep.make_scenes import main as make_scenes
from data_prep.scenes.pretraining.model import build_model
from semcore.data.dataset import ImageRecord, load_dataset
from semcore.data.directions import Direction
from semcore.data.identifier_files import IdentifierRow, make_row
from semcore.data.items_and_queries import Item
from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.cluster_tokens import add_cluster_tokens
from semcore.models.prompts import load_prompts
from semcore.models.session import FeaturesInMemory, ModelSession
from semcore.models.visual_features import FeatureStore
from semcore.retrieval.corpus import build_corpus
from semcore.retrieval.generator import generate
from semcore.training.fine_tune import fine_tune, image_start_id, make_trainable
from semcore.training.held_out import HeldOut
from semcore.training.identifier_pairs import identifier_examples
from semcore.training.image_inputs import StoredFeatures
from semcore.training.schedule import PlannedRows, plan_identifier_rows, plan_question_rows
from semcore.training.settings import VerifierTrainingSettings
from semcore.training.verifier_questions import CandidateSet, QuestionMaker
from semcore.verification.block_inference import BlockReader
from semcore.verification.listwise import choose
from semcore.verification.question import Choice, Question
from semcore.verification.session import VerifierSession

KEYWORDS = ("red circle", "blue star", "dog park", "street", "green", "small", "grass", "sky")
NOTHING = HeldOut(frozenset(), frozenset())
Build = Callable[[int], Checkpoint]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eight") / "data"
    make_scenes(ScenesSettings(folder, train=8, val=1, test=1, seed=3))
    return folder


@pytest.fixture(scope="module")
def records(data: Path) -> list[ImageRecord]:
    """Eight images with one sentence each."""
    return [replace(record, sentences=record.sentences[:1]) for record in load_dataset(data).split("train")]


@pytest.fixture
def build(pristine_checkpoint: Checkpoint) -> Build:
    """Return a checkpoint of random weights with so many layers."""

    def make(text_layers: int) -> Checkpoint:
        tokenizer = copy.deepcopy(pristine_checkpoint.tokenizer)
        torch.manual_seed(0)
        model = build_model(tokenizer, text_layers=text_layers, hidden_size=64)
        return Checkpoint(model.eval(), tokenizer, pristine_checkpoint.image_processor, "tiny")

    return make


def features_of(checkpoint: Checkpoint, data: Path, records: list[ImageRecord]) -> dict[str, torch.Tensor]:
    dataset = load_dataset(data)
    paths = {record.image_id: dataset.image_path(record) for record in records}
    return FeatureStore(checkpoint, paths, None).of(paths)


def trained(
    checkpoint: Checkpoint, plan: Callable[..., PlannedRows], features: dict[str, torch.Tensor], folder: Path,
    *, learning_rate: float, max_steps: int, new_token_ids: list[int], attention_loss: float = 0.0,
) -> Checkpoint:  # fmt: skip
    """Train as the recipes do, and load what was saved."""
    settings = VerifierTrainingSettings(
        learning_rate=learning_rate, num_epochs=max_steps, max_steps=max_steps, batch_size=4, micro_batch_size=4,
        bf16="no", gradient_checkpointing=False, save_steps=max_steps, attention_loss=attention_loss,
    )  # fmt: skip
    rows = plan(image_start_id=image_start_id(checkpoint), **settings.schedule())
    model = make_trainable(
        checkpoint.model, True, True, rank=0, alpha=None, dropout=0.0, target_modules=[], new_token_ids=new_token_ids
    )
    how = settings.optimization()
    fine_tune(checkpoint, model, rows, StoredFeatures(features), folder, prompts={}, description="floor", **how)
    return load_checkpoint(folder)


def test_a_generator_finds_all_of_eight_pairs(
    build: Build, data: Path, records: list[ImageRecord], tmp_path: Path
) -> None:
    checkpoint = build(2)
    new_tokens = add_cluster_tokens(checkpoint, 2, [["red"], ["blue"]])
    features = features_of(checkpoint, data, records)
    prompts = load_prompts(special_tokens=checkpoint.special_tokens)
    rows = {
        Direction.T2I: _rows([r.image_id for r in records], KEYWORDS),
        Direction.I2T: _rows([r.sentences[0].sentence_id for r in records], KEYWORDS[::-1]),
    }
    visuals = StoredFeatures(features)
    t2i, i2t = identifier_examples(checkpoint.tokenizer, prompts, records, rows, NOTHING, visuals)
    assert len(t2i) == len(i2t) == 8

    def plan(**schedule: Any) -> PlannedRows:
        return plan_identifier_rows(t2i, i2t, max_tokens=400, **schedule)

    folder = tmp_path / "model"
    again = trained(checkpoint, plan, features, folder, learning_rate=5e-3, max_steps=300, new_token_ids=new_tokens)
    queries = {Direction.T2I: [r.sentences[0].text for r in records], Direction.I2T: [r.image_id for r in records]}
    for direction, asked in queries.items():
        items = [Item(row["item_id"], row["item_id"], row["identifier"], "") for row in rows[direction]]
        session = ModelSession(again, prompts, FeaturesInMemory(features))
        hits = generate(session, direction, asked, build_corpus(session, direction, items), num_beams=4)
        assert [own[0].item_id for own in hits] == [item.item_id for item in items], direction


def _rows(item_ids: list[str], keywords: Sequence[str]) -> list[IdentifierRow]:
    return [make_row(i, "train", n % 2, keywords[n].split()) for n, i in enumerate(item_ids)]


@pytest.mark.parametrize(
    ("direction", "attention", "attention_loss"),
    [
        (Direction.T2I, "full", 0.0),
        (Direction.I2T, "blocks", 0.0),
        pytest.param(Direction.I2T, "full", 0.0, marks=pytest.mark.slow),
        pytest.param(Direction.T2I, "blocks", 0.0, marks=pytest.mark.slow),
        pytest.param(Direction.T2I, "full", 0.1, marks=pytest.mark.slow),
        pytest.param(Direction.I2T, "full", 0.1, marks=pytest.mark.slow),
    ],
)
def test_a_listwise_verifier_is_right_on_four_sets_of_two(
    build: Build, data: Path, records: list[ImageRecord], tmp_path: Path, direction: Direction, attention: Any,
    attention_loss: float,
) -> None:  # fmt: skip
    """In both orders of the candidates: so it has read them, and no letter is the better guess."""
    checkpoint = build(2)
    features = features_of(checkpoint, data, records)
    prompts = load_prompts(special_tokens=checkpoint.special_tokens)
    sets = [_candidates(direction, *records[n : n + 2]) for n in range(0, 8, 2)]
    maker = QuestionMaker(
        checkpoint.tokenizer, prompts, records, StoredFeatures(features), 0, marked=attention_loss > 0
    )

    def plan(**schedule: Any) -> PlannedRows:
        return plan_question_rows(sets, maker, attention=attention, **schedule)

    folder = tmp_path / "model"
    again = trained(
        checkpoint, plan, features, folder, learning_rate=3e-3, max_steps=250, new_token_ids=[],
        attention_loss=attention_loss,
    )  # fmt: skip
    blocks = BlockReader(again, prompts) if attention == "blocks" else None
    session = VerifierSession(again, prompts, FeaturesInMemory(features), blocks)
    for own in sets:
        for items in (own.items, own.items[::-1]):
            choices = tuple(Choice(item.item_id, item.keywords, item.text) for item in items)
            question = Question(own.query, choices)
            (scores,) = choose(session, direction, [question])
            right = [item.image_id for item in items].index(own.image_id)
            assert scores[right] > -0.7, f"{own.query}: {scores}"  # more than one half


def _candidates(direction: Direction, right: ImageRecord, wrong: ImageRecord) -> CandidateSet:
    if direction.items_are_images:
        images = tuple(Item(r.image_id, r.image_id, "", "words") for r in (right, wrong))
        return CandidateSet(Direction.T2I, right.sentences[0].text, right.image_id, images)
    sentences = tuple(
        Item(r.sentences[0].sentence_id, r.image_id, "", "words", text=r.sentences[0].text) for r in (right, wrong)
    )
    return CandidateSet(Direction.I2T, right.image_id, right.image_id, sentences)
