"""The ranking stage in this process: what is found and written, rounds, what goes on, and what users get wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from semcore.data.run_folder import RunFolder
from semcore.models.checkpoint import load_checkpoint
from semcore.models.extra_modules import WEIGHTS
from semcore.models.run_checkpoints import generator_of
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_jsonl
from semcore.training import ranking_rounds
from tests.recipes.conftest import new_run
from tests.recipes.test_training_recipes import run_recipe

COMMON = ("--training.batch-size", 4, "--training.gradient-checkpointing", "false", "--training.bf16", "no")
FUSED = ("--losses.fusion", "layers", "--losses.set-weight", "0.5")

Train = Callable[..., None]


@pytest.fixture
def run(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A run folder with identifiers."""
    return new_run(tmp_path / "run", tiny_dataset)


@pytest.fixture
def train(run: Path, tiny_dataset: Path, tiny_checkpoint_folder: Path) -> Train:
    def call(name: str, *options: object, where: Path = run) -> None:
        steps = ("--training.num-epochs", 30, "--training.max-steps", 3)
        base = ("--model.base", tiny_checkpoint_folder) if name == "train_identifier" else ()
        run_recipe(name, "--data", tiny_dataset, "--run", where, *base, *steps, *COMMON, *options)

    return call


def test_a_model_is_ranked_in_two_rounds(train: Train, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("train_identifier", *FUSED)
    capsys.readouterr()
    train("train_ranking", "--ranking.rounds", 2, "--training.learning-rate", 1e-2)
    output = capsys.readouterr().out
    assert "train_ranking: 3 queries t2i and 3 queries i2t, 2 round(s) of search and training" in output
    assert output.endswith(f"--run {run}\n") and "next: python -m data_prep.candidates" in output
    entry = read_json(run / "manifest.json")["stages"]["train_ranking"]
    assert entry["finished"] and entry["steps"] == 3 and entry["outputs"] == ["ranked_model", "ranking"]
    assert "warnings" not in entry
    for number in (1, 2):
        rows = list(read_jsonl(run / "ranking" / f"round-{number}" / "t2i.jsonl"))
        assert len(rows) == 3
        identifiers = {row["item_id"]: row["identifier"] for row in read_jsonl(run / "identifiers" / "t2i.jsonl")}
        for row in rows:
            (right,) = row["right"]
            assert right == identifiers[row["query_id"].rpartition("-")[0]]
            assert len(row["found"]) == len(set(row["found"])) == 2 and right not in row["found"]  # of three images
    assert len(next(read_jsonl(run / "ranking" / "round-1" / "i2t.jsonl"))["right"]) == 2
    assert generator_of(RunFolder(run)) == str(run / "ranked_model")
    assert generator_of(RunFolder(run), "identifier") == str(run / "identifier_model")
    states = [load_checkpoint(run / name).model.state_dict() for name in ("identifier_model", "ranked_model")]
    moved = {name for name, weight in states[0].items() if not torch.equal(weight, states[1][name])}
    assert any("layers.0.mlp" in name for name in moved) and "layer_fusion.scales" in moved
    assert not any("set_head" in name or "vision" in name for name in moved)
    assert (run / "ranked_model" / "README.md").exists()
    train("train_ranking", "--ranking.rounds", 2, "--training.learning-rate", 1e-2)
    assert "already trained" in capsys.readouterr().out
    with pytest.raises(UserError, match="ranking.rounds 2, not 1; .*--run"):
        train("train_ranking", "--training.learning-rate", 1e-2)


def test_a_stage_that_is_killed_between_rounds_ends_like_a_whole_one(
    train: Train, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("train_identifier", "--directions", "[t2i]")
    options = ("--ranking.rounds", 2, "--ranking.loss", "hinge", "--training.learning-rate", 1e-2)
    other = shutil.copytree(run, tmp_path / "other")
    train("train_ranking", *options)
    plain, rounds = ranking_rounds.fine_tune, []

    def killed(*arguments: Any, **named: Any) -> Any:
        rounds.append(named["description"])
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return plain(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(ranking_rounds, "fine_tune", killed)
        with pytest.raises(KeyboardInterrupt):
            train("train_ranking", *options, where=other)
    assert rounds == ["ranking, round 1", "ranking, round 2"]
    train("train_ranking", *options, where=other)
    for name in ("round-1", "round-2"):
        one, two = (own / "ranking" / name / "t2i.jsonl" for own in (run, other))
        assert one.read_text() == two.read_text()
    whole, again = (load_checkpoint(own / "ranked_model").model.state_dict() for own in (run, other))
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())


def test_an_adapter_is_trained_on(train: Train, run: Path) -> None:
    train("train_identifier", "--lora.rank", 2, "--directions", "[t2i]", *FUSED)
    train("train_ranking", "--training.learning-rate", 1e-2)
    folders = (run / "identifier_model", run / "ranked_model")
    assert all((folder / "adapter_model.safetensors").exists() and (folder / WEIGHTS).exists() for folder in folders)
    before, after = ((folder / WEIGHTS).read_bytes() for folder in folders)
    assert before != after  # the fusion trains


def test_check_reads_everything_and_writes_nothing(train: Train, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("train_identifier", "--directions", "[t2i]")
    before = sorted(path.name for path in run.rglob("*"))
    train("train_ranking", "--check")
    assert capsys.readouterr().out.endswith("train_ranking: everything is in order\n")
    assert sorted(path.name for path in run.rglob("*")) == before


def test_what_cannot_be_ranked(train: Train, run: Path) -> None:
    with pytest.raises(UserError, match=r"no model in .*identifier_model; train it with `.*train_identifier.py --run"):
        train("train_ranking")
    train("train_identifier", "--directions", "[t2i]")
    with pytest.raises(UserError, match=r"trained for text to image \(t2i\) only, not for image to text"):
        train("train_ranking", "--directions", "[i2t]")
    with pytest.raises(UserError, match="--ranking.temperature must be above 0, found 0"):
        train("train_ranking", "--ranking.temperature", 0)
    with pytest.raises(UserError, match="no model in .*ranked_model; train it with `.*train_ranking.py"):
        generator_of(RunFolder(run), "ranked")
