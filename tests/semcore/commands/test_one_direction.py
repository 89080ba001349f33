"""A run whose models were trained for text to image alone: it is mined, measured, reported and searched so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from data_prep.candidates import Settings as CandidateSettings
from data_prep.candidates import main as mine
from semcore import Retriever
from semcore.commands.evaluate import EvaluateSettings, main
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.models.lineage import made_from, trained_directions, write_lineage
from semcore.models.run_lineage import prompts_of
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_jsonl, write_json, write_jsonl
from tests.run_fixtures import SearchableRun

CPU: dict[str, Any] = {"dtype": "float32", "device": "cpu"}
SMALL: dict[str, Any] = {
    "num_beams": 4,
    "num_candidates": 3,
    "num_val_queries": 4,
    "num_order_queries": 0,
    "num_ablation_queries": 2,
}


def train_for(own: SearchableRun, name: str, directions: Sequence[Direction]) -> None:
    """Let a model of the run say that it was trained for some directions."""
    run = RunFolder(own.run)
    folder = run / {"generator": "identifier_model", "listwise": "verifier_model"}[name]
    write_json(folder / "prompts.json", prompts_of([name], directions))
    write_lineage(folder, made_from(run, load_dataset(own.data), directions=directions))


@pytest.fixture
def t2i_run(searchable_run: SearchableRun) -> SearchableRun:
    for name in ("generator", "listwise"):
        train_for(searchable_run, name, [Direction.T2I])
    sentences = searchable_run.run / "identifiers" / "i2t.jsonl"
    write_jsonl(sentences, list(read_jsonl(sentences))[::-1])  # they were not trained on, so that they may change
    return searchable_run


def measure(own: SearchableRun, **changes: object) -> None:
    main(EvaluateSettings(own.run, **{**CPU, **SMALL, **changes}))


def test_a_model_that_says_nothing_may_serve_both(tmp_path: Path) -> None:
    assert trained_directions(tmp_path) == trained_directions("someone/model") == tuple(Direction)


def test_what_it_was_trained_for_is_mined_measured_and_reported(t2i_run: SearchableRun) -> None:
    run = t2i_run.run
    mine(CandidateSettings(run, num_beams=4, num_candidates=3, **CPU))
    mined = {path.relative_to(run / "candidates").as_posix() for path in (run / "candidates").rglob("*.jsonl")}
    assert mined == {"t2i.jsonl", "val/t2i.jsonl"}
    assert list(read_json(run / "candidates" / "held_out.json")) == ["t2i"]

    measure(t2i_run, verifier="both", folds=2)
    metrics = read_json(run / "metrics.json")
    assert "i2t" not in json.dumps(metrics)
    assert metrics["t2i"]["generated"]["num_queries"] == 30
    assert not (run / "i2t").exists()
    for report in ("report.md", "report.html"):
        text = (run / report).read_text()
        assert "ext → image" in text and "mage → text" not in text
    tasks = {result.task_name for result in ModelCard.load(run / "identifier_model" / "README.md").data.eval_results}
    assert tasks == {"text to image retrieval"}


@pytest.mark.parametrize("name", ["generator", "listwise"])
def test_the_other_direction_is_refused_before_anything_is_loaded(searchable_run: SearchableRun, name: str) -> None:
    train_for(searchable_run, name, [Direction.T2I])
    with pytest.raises(UserError, match=r"_model was trained for text to image \(t2i\) only.*--directions \[t2i,i2t\]"):
        measure(searchable_run, directions=["i2t"], check=True)
    measure(searchable_run, directions=["t2i"], check=True)
    if name == "listwise":
        with pytest.raises(UserError, match="verifier_model was trained for text to image"):
            measure(searchable_run, check=True)
        measure(searchable_run, verifier="likelihood", check=True)
    else:
        with pytest.raises(UserError, match="identifier_model was trained for text to image"):
            mine(CandidateSettings(searchable_run.run, directions=["i2t"], **CPU))


def test_a_search_answers_sentences_and_refuses_images(t2i_run: SearchableRun) -> None:
    retriever = Retriever.from_run(t2i_run.run, split="test", num_candidates=3, num_beams=4, **CPU)
    assert len(retriever.search(text="a red circle", top_k=3)) == 3
    picture = load_dataset(t2i_run.data).image_path(load_dataset(t2i_run.data).split("test")[0])
    with pytest.raises(UserError, match="not for image to text"):
        retriever.search(image=picture)
