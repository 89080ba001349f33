"""Costs of a variant, counted by hand: tokens, bytes, seconds, and the first place by items and by identifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from semcore.data.directions import Direction
from semcore.data.identifier_files import make_row
from semcore.models.checkpoint import load_tokenizer
from semcore.runtime.files import read_json, write_json, write_jsonl
from semcore.runtime.packaged_files import asset_folder
from semcore.study.costs import costs_of, index_size

ROWS = [("a", "red circle"), ("b", "blue square"), ("c", "blue square"), ("d", "green")]


def make_run(run: Path, seconds: float, recall: float, *, verified: bool = True) -> Path:
    """Write what an evaluated run of four test images leaves behind, as far as costs are read from it."""
    run.mkdir(parents=True)
    (run / "identifier_model").symlink_to(asset_folder("scenes_base"))
    rows = [make_row(item, "test", 0, text.split()) for item, text in ROWS]
    write_jsonl(run / "identifiers" / "t2i.jsonl", [make_row("z", "train", 0, ["left", "out"]), *rows])
    write_json(run / "identifiers" / "report.json", {"t2i": {"test": {"shared_percent": 50.0}}})
    stages = {"caption": 9.0, "train_identifier": seconds, "train_ranking": 1.0, "evaluate": 9.0}
    write_json(run / "manifest.json", {"stages": {stage: {"seconds": own} for stage, own in stages.items()}})
    own: dict[str, Any] = {
        "generated": {"R@1": recall, "num_queries": 10},
        "generated_as_they_count": {"R@1": recall + 5, "num_queries": 10},
        **({"verified": {"R@1": recall + 20}} if verified else {}),
    }
    spent = {"generate t2i test": seconds, "generate t2i val": 99.0, "likelihood with the image": 3.0,
             "likelihood without": 2.0, "lost items t2i test": 99.0}  # fmt: skip
    verifiers: dict[str, Any] = {"likelihood": {}} if verified else {}
    metrics = {"protocol": "inductive", "split": "test", "t2i": own, "seconds": spent, "verifiers": verifiers}
    write_json(run / "metrics.json", metrics)
    return run


def test_scores_are_means_and_seconds_are_medians(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(seed), seconds, 30 + seed) for seed, seconds in enumerate([2.0, 4.0, 600.0])]
    costs = costs_of(runs)
    assert costs["protocol"] == "inductive"
    assert costs["training_seconds"] == 5.0  # of 3, 5 and 601
    assert costs["verification_seconds"] == 0.5  # 5 of 10 queries
    own = costs["t2i"]
    assert (own["R@1"], own["as they count"], own["verified"]) == (31, 36, 51)
    assert (own["shared"], own["generation_seconds"]) == (50, 0.4)
    assert "i2t" not in costs


def test_a_guided_search_counts_in_place_of_the_one_without(tmp_path: Path) -> None:
    run = make_run(tmp_path / "0", 2.0, 30)
    metrics = read_json(run / "metrics.json")
    metrics["seconds"]["generate guided t2i test"] = 7.0
    write_json(run / "metrics.json", metrics)
    assert costs_of([run])["t2i"]["generation_seconds"] == 0.7


def test_without_verification_there_is_none(tmp_path: Path) -> None:
    costs = costs_of([make_run(tmp_path / "0", 2.0, 30, verified=False)])
    assert costs["t2i"]["verified"] is None and costs["verification_seconds"] == 0


def test_tokens_are_those_of_the_measured_split_with_their_end(tmp_path: Path) -> None:
    run = make_run(tmp_path / "0", 2.0, 30)
    tokens, nbytes = index_size(run, Direction.T2I, "test")
    tokenizer = load_tokenizer(asset_folder("scenes_base"))
    texts = [make_row(item, "test", 0, text.split())["identifier"] for item, text in ROWS]
    lengths = [len(tokenizer.encode(text, add_special_tokens=False)) + 1 for text in texts]
    assert tokens == pytest.approx(sum(lengths) / 4)
    assert 8 < nbytes < 500
