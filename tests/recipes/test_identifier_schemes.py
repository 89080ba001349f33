"""Every identifier scheme through the pipeline: identifiers, training, evaluation and search of drawn scenes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import identifiers
from data_prep.make_scenes import Settings as ScenesSettings
from data_prep.make_scenes import main as make_scenes
from semcore.commands.arguments import parse
from semcore.commands.evaluate import EvaluateSettings
from semcore.commands.evaluate import main as evaluate
from semcore.data.dataset import load_dataset
from semcore.data.identifier_files import all_identifiers, read_identifiers
from semcore.data.identifier_tokens import read_tokens
from semcore.data.run_folder import RunFolder
from semcore.identifiers.schemes import SCHEMES
from semcore.models.checkpoint import load_tokenizer
from semcore.retrieval.retriever import Retriever
from semcore.runtime.files import read_json, write_jsonl
from tests.recipes.test_training_recipes import run_recipe

SMALL = (
    "--num-clusters", "3", "--num-cluster-words", "1", "--coarse", "3", "--branch", "2", "--leaf", "4",
    "--quantizer.num-levels", "2", "--quantizer.num-codes", "4",
)  # fmt: skip
RQ_VAE = (
    "--quantizer.kind",
    "rq-vae",
    "--quantizer.layers",
    "[8]",
    "--quantizer.dim",
    "4",
    "--quantizer.num-steps",
    "9",
)
CASES = {
    "vokens": ("--scheme", "vokens"),
    "vokens of an RQ-VAE": ("--scheme", "vokens", *RQ_VAE, "--collisions", "next", "--token-init", "codebook",
                            "--modality-token"),
    "several vokens": ("--scheme", "vokens", "--per-item", "2", "--token-init", "random"),
    "coarse-fine": ("--scheme", "coarse-fine", "--collisions", "count"),
    "several coarse-fine": ("--scheme", "coarse-fine", "--per-item", "3"),
    "several structured": ("--scheme", "structured", "--per-item", "2"),
    "of the model": ("--scheme", "vokens", "--vectors", "model", "--vectors-pool", "flatten"),
    "atomic": ("--scheme", "atomic", "--protocol", "transductive"),
    **{name: ("--scheme", name) for name in ("structured", "numeric", "hierarchical", "string", "caption")},
}  # fmt: skip
QUICK = "several vokens"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemes") / "data"
    make_scenes(ScenesSettings(folder, train=12, val=4, test=4))
    return folder


def small_encoder(name: str, device: str | None) -> Callable[[list[str]], np.ndarray]:
    """Count letters instead of loading weights."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return lambda texts: np.array([[text.count(letter) for letter in letters] for text in texts], np.float32)


@pytest.fixture
def pipeline(
    data: Path, tmp_path: Path, tiny_checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., RunFolder]:
    """Return a function that takes a run with the given options of identifiers as far as its evaluation."""
    monkeypatch.setattr(identifiers, "load_encoder", small_encoder)

    def go(*options: str) -> RunFolder:
        run = RunFolder(tmp_path / "run")
        rows = [{"image_id": r.image_id, "caption": r.sentences[0].text} for r in load_dataset(data).images]
        write_jsonl(run / "captions.jsonl", rows)
        run.open_stage("caption", {"model": str(tiny_checkpoint_folder)}, {}, data).finish()
        arguments = ["--data", str(data), "--run", str(run.path), *SMALL, *options]
        identifiers.main(parse(identifiers.Settings, arguments, "identifiers"))
        some = ["t2i", "i2t"] if (run / "identifiers" / "i2t.jsonl").stat().st_size else ["t2i"]
        run_recipe(
            "train_identifier", "--data", data, "--run", run.path, "--model.base", tiny_checkpoint_folder,
            "--training.max-steps", 2, "--training.batch-size", 4, "--training.gradient-checkpointing", "false",
            "--row-tokens", 96, "--directions", f"[{','.join(some)}]",
        )  # fmt: skip
        evaluate(
            EvaluateSettings(
                run.path, verifier="none", num_beams=8, num_ablation_queries=2, num_val_queries=4, limit=6,
                num_prior_queries=2, dtype="float32", device="cpu",
            )
        )  # fmt: skip
        return run

    return go


def check(run: RunFolder, options: tuple[str, ...]) -> None:
    """Hold what has to be true of any scheme."""
    tokenizer, metrics = load_tokenizer(run / "identifier_model"), read_json(run / "metrics.json")
    tokens = read_tokens(run / "identifiers")
    assert set(tokens.texts) <= set(tokenizer.get_vocab())
    directions = [name for name in ("t2i", "i2t") if name in metrics]
    assert directions == (["t2i"] if "model" in options else ["t2i", "i2t"])
    report = read_json(run / "identifiers" / "report.json")
    assert set(report["oracle"]) == set(directions) or (report["oracle"] == {} and "model" in options)
    retriever = Retriever.from_run(run.path, verifier="none")
    hits = retriever.search(text="a red circle", top_k=20)
    items = {row["item_id"]: all_identifiers(row) for row in read_identifiers(run / "identifiers", "t2i")}
    assert len({hit.item_id for hit in hits}) == len(hits) >= 1
    assert all(hit.identifier in items[hit.item_id] for hit in hits)


def test_several_identifiers_go_through_the_pipeline(pipeline: Callable[..., RunFolder]) -> None:
    run = pipeline(*CASES[QUICK])
    check(run, CASES[QUICK])
    rows = read_identifiers(run / "identifiers", "t2i")
    assert all(len(row["more"]) == 1 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES.keys() - {QUICK}))
def test_every_scheme_goes_through_the_pipeline(pipeline: Callable[..., RunFolder], name: str) -> None:
    check(pipeline(*CASES[name]), CASES[name])


def test_no_scheme_is_left_out() -> None:
    assert {options[1] for options in CASES.values()} == set(SCHEMES)


@pytest.mark.slow
def test_a_killed_run_of_codes_gives_the_same_bytes(
    pipeline: Callable[..., RunFolder], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: list[Any] = ["--data", str(data), *SMALL, *CASES["vokens of an RQ-VAE"]]
    run, other = tmp_path / "one", tmp_path / "other"
    rows = [{"image_id": r.image_id, "caption": r.sentences[0].text} for r in load_dataset(data).images]
    for place in (run, other):
        write_jsonl(place / "captions.jsonl", rows)
    identifiers.main(parse(identifiers.Settings, [*options, "--run", str(run)], "identifiers"))
    with monkeypatch.context() as patch:
        patch.setattr("semcore.identifiers.write.write_tokens", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            identifiers.main(parse(identifiers.Settings, [*options, "--run", str(other)], "identifiers"))
    identifiers.main(parse(identifiers.Settings, [*options, "--run", str(other)], "identifiers"))
    names = sorted(path.name for path in (run / "identifiers").iterdir())
    assert names == ["i2t.jsonl", "quantizer.json", "quantizer.safetensors", "report.json", "report.md", "t2i.jsonl",
                     "tokens.json", "tokens.safetensors"]  # fmt: skip
    for name in names:
        assert (run / "identifiers" / name).read_bytes() == (other / "identifiers" / name).read_bytes()
    shutil.rmtree(run)
