"""The identifier model's training with what neighbouring papers add, in this process: queries, losses, bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from semcore.data.dataset import load_dataset
from semcore.data.run_folder import RunFolder
from semcore.evaluation.inputs import protocol_of, protocol_parts
from semcore.models.checkpoint import load_checkpoint
from semcore.models.extra_modules import WEIGHTS
from semcore.models.layer_fusion import find_layer_fusion
from semcore.models.set_head import find_set_head
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json, write_jsonl
from tests.recipes.conftest import new_run
from tests.recipes.test_training_recipes import run_recipe

Train = Callable[..., None]


@pytest.fixture
def run(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A run folder with identifiers of three training images and three others, and captions of five of them."""
    folder = new_run(tmp_path / "run", tiny_dataset)
    records = load_dataset(tiny_dataset).images
    write_jsonl(folder / "captions.jsonl", [{"image_id": r.image_id, "caption": "a scene"} for r in records[:-1]])
    write_json(folder / "identifiers" / "report.json", {"protocol": "inductive"})
    return folder


@pytest.fixture
def train(run: Path, tiny_dataset: Path, tiny_checkpoint_folder: Path) -> Train:
    def call(*options: object) -> None:
        quick = ("--training.max-steps", 1, "--training.batch-size", 4, "--training.gradient-checkpointing", "false")
        where = ("--data", tiny_dataset, "--run", run, "--model.base", tiny_checkpoint_folder)
        run_recipe("train_identifier", *where, *quick, *options)

    return call


def test_further_queries_are_counted_and_make_results_transductive(
    train: Train, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("--check", "--queries.captions", "train", "--queries.images", "train")
    assert "6 pairs t2i, 9 pairs i2t" in capsys.readouterr().out  # 3 and 6 without
    assert protocol_of(RunFolder(run)) == "inductive"
    train("--queries.captions", "all", "--queries.images", "all")
    assert "8 pairs t2i, 12 pairs i2t" in capsys.readouterr().out
    prompts = read_json(run / "identifier_model" / "prompts.json")
    assert set(prompts) == {"identify_t2i.jinja", "identify_i2t.jinja", "identify_own.jinja"}
    assert protocol_of(RunFolder(run)) == "transductive"
    assert protocol_parts(RunFolder(run)) == {"identifiers": "inductive", "captions": "all", "images": "all"}
    assert not (run / "identifier_model" / WEIGHTS).exists()
    (run / "captions.jsonl").write_text("")
    with pytest.raises(UserError, match="captions.jsonl has changed since stage train_identifier"):
        train("--queries.captions", "all", "--queries.images", "all")


def test_images_that_ask_for_themselves_need_no_sentences(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    train("--check", "--queries.images", "all", "--directions", "[t2i]")
    assert "3 pairs t2i, 6 pairs i2t" in capsys.readouterr().out


def test_all_losses_train_in_one_step(train: Train, run: Path) -> None:
    train(
        "--losses.set-weight", 0.5, "--losses.set-loss", "items", "--losses.set-pool", "last", "--losses.rdrop", 0.15,
        "--losses.dropout", 0.1, "--losses.fusion", "layers", "--losses.temperature", 0.5,
        "--training.null-queries", 0.5,
    )  # fmt: skip
    model = load_checkpoint(run / "identifier_model").model
    head, fusion = find_set_head(model), find_layer_fusion(model)
    assert head is not None and head.pool == "last" and fusion is not None
    assert {"<|cluster_0|>", "<|cluster_1|>", "circle", "number0"} <= set(head.units)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--losses.rdrop", 0.15), "compares two passes, and without dropout they are the same: give --losses.dropout"),
        (("--queries.captions", "all", "--directions", "[i2t]"),
         r"--queries.captions all asks for the identifiers of images, and --directions \[i2t\] trains none of them"),
        (("--queries.images", "train", "--directions", "[i2t]"), "add t2i, or give --queries.images none"),
        (("--losses.temperature", 0), "--losses.temperature must be above 0, found 0"),
        (("--losses.set-weight", -1), "--losses.set-weight must be 0 or more, found -1"),
        (("--losses.dropout", 1), "--losses.dropout must be from 0 to below 1, found 1"),
        (("--losses.fusion-layers", 0), "--losses.fusion-layers must be 1 or more, found 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_one_sentence(train: Train, options: tuple[object, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        train("--check", *options)


def test_captions_that_are_not_there(train: Train, run: Path) -> None:
    write_jsonl(run / "captions.jsonl", [{"image_id": "tiny-3", "caption": "of val"}])
    with pytest.raises(UserError, match=r"none of the 0 captions in .*captions.jsonl is of an image with an ident"):
        train("--check", "--queries.captions", "train")
    (run / "captions.jsonl").unlink()
    with pytest.raises(UserError, match=r"reads .*captions.jsonl, which is not there: write captions with `python -m"):
        train("--check", "--queries.captions", "train")


def test_a_dropping_adapter_is_dropout_enough_for_rdrop(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    train("--check", "--losses.rdrop", 0.15, "--lora.rank", 2)
    assert capsys.readouterr().out.endswith("everything is in order\n")
