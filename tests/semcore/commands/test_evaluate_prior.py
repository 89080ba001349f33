"""The identifiers' prior from evaluation to search: estimated, kept, fitted and taken off."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import semcore.evaluation.corrected_hits
import semcore.retrieval.priors
from semcore.commands.evaluate import EvaluateSettings, main
from semcore.data.directions import Direction
from semcore.data.identifier_files import read_identifiers
from semcore.decoding import exhaustive_search
from semcore.evaluation.per_query import read_per_query
from semcore.evaluation.trec import read_run
from semcore.models.null_queries import NULL_QUERIES, null_queries_record
from semcore.retrieval.generator import null_query_inputs
from semcore.retrieval.retriever import Retriever
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from tests.run_fixtures import SearchableRun

NUM_BEAMS = 40  # more than there are items: a search finds them all


def settings(run: SearchableRun, **others: Any) -> EvaluateSettings:
    own = {"verifier": "none", "num_beams": NUM_BEAMS, "ablations": False, "num_prior_queries": 5, **others}
    return EvaluateSettings(run.run, dtype="float32", device="cpu", **own)


def priors_of(run: Path, direction: Direction) -> dict[str, float]:
    """Return identifier -> log p(identifier), as the run's only file of the direction says."""
    files = [read_json(path) for path in (run / "priors").glob("*.json")]
    (own,) = (content["log_priors"] for content in files if content["direction"] == direction)
    return {identifier: values[-1] for identifier, values in own.items()}


def identifiers_of(run: Path, direction: Direction, split: str | None = None) -> dict[str, str]:
    return {row["item_id"]: row["identifier"] for row in read_identifiers(run / "identifiers", direction, split)}


@pytest.fixture(scope="module")
def evaluated(finished_training: SearchableRun, tmp_path_factory: pytest.TempPathFactory) -> SearchableRun:
    """A run that was evaluated with a fitted weight, not to be changed."""
    folder = tmp_path_factory.mktemp("prior") / "run"
    shutil.copytree(finished_training.run, folder)
    run = SearchableRun(finished_training.data, folder, finished_training.base)
    main(settings(run))
    return run


@pytest.fixture
def copy_of(evaluated: SearchableRun, tmp_path: Path) -> SearchableRun:
    shutil.copytree(evaluated.run, tmp_path / "run")
    return SearchableRun(evaluated.data, tmp_path / "run", evaluated.base)


def test_both_figures_and_their_difference_are_in_metrics_and_report(evaluated: SearchableRun) -> None:
    metrics = read_json(evaluated.run / "metrics.json")
    assert metrics["prior"]["choice"] == "fit"
    assert metrics["prior"]["later_stages_use"] == "generated"
    assert metrics["prior"]["weights"] == read_json(evaluated.run / "prior.json")["weights"]
    assert metrics["prior"]["weights"] == read_json(evaluated.run / "verification.json")["prior_weights"]
    for direction in Direction:
        assert 0 <= metrics["prior"]["weights"][direction] <= 1
        own = metrics[direction]
        for name, change in own["generated_less_paper"].items():
            assert change["mean"] == pytest.approx(own["generated"][name] - own["generated_paper"][name])
            assert change["low"] <= change["mean"] <= change["high"]
        rows = read_per_query(evaluated.run / direction / "per_query.jsonl")
        for stage in ("generated", "generated_paper"):
            right = [row[f"rank_{stage}"] == 1 for row in rows]
            assert own[stage]["R@1"] == pytest.approx(100 * sum(right) / len(right))
    report = (evaluated.run / "report.md").read_text()
    assert report.count("| generated, paper |") == 2
    assert f"{metrics['prior']['weights']['i2t']:.2f} log p(identifier)" in report


@pytest.mark.parametrize("direction", Direction)
def test_the_score_is_the_papers_less_the_weighted_prior(evaluated: SearchableRun, direction: Direction) -> None:
    weight = read_json(evaluated.run / "prior.json")["weights"][direction]
    identifiers, priors = identifiers_of(evaluated.run, direction), priors_of(evaluated.run, direction)
    ours, paper = (read_run(evaluated.run / direction / f"run.{n}.trec") for n in ("generated", "generated_paper"))
    assert ours.keys() == paper.keys()
    for query, found in ours.items():
        before = dict(paper[query])
        assert before.keys() == dict(found).keys()
        for item, score in found:
            assert score == pytest.approx(before[item] - weight * priors[identifiers[item]], abs=1e-3)


def test_a_weight_of_zero_is_the_papers_search_and_estimates_nothing(
    evaluated: SearchableRun, searchable_run: SearchableRun
) -> None:
    main(settings(searchable_run, prior_weight=0))
    metrics = read_json(searchable_run.run / "metrics.json")
    assert not (searchable_run.run / "priors").exists()
    assert metrics["prior"]["choice"] == 0
    for direction in Direction:
        assert "generated_paper" not in metrics[direction]
        assert not (searchable_run.run / direction / "run.generated_paper.trec").exists()
        before = read_run(evaluated.run / direction / "run.generated_paper.trec")
        assert read_run(searchable_run.run / direction / "run.generated.trec") == before


def test_in_a_beam_that_holds_everything_the_search_with_the_prior_off_finds_the_same(
    evaluated: SearchableRun, searchable_run: SearchableRun
) -> None:
    main(settings(searchable_run, prior_in_search=True))
    for direction in Direction:
        name = f"{direction}/run.generated.trec"
        before, after = (read_run(run.run / name) for run in (evaluated, searchable_run))
        for query, found in before.items():
            assert [item for item, _ in after[query]] == [item for item, _ in found]
            assert [s for _, s in after[query]] == pytest.approx([s for _, s in found], abs=1e-3)
    retriever = Retriever.from_run(
        searchable_run.run, split="test", verifier="none", num_beams=NUM_BEAMS, dtype="float32"
    )
    asked = read_per_query(searchable_run.run / "t2i" / "per_query.jsonl")[0]
    hits = retriever.search(text=asked["query"], top_k=6)
    assert [hit.item_id for hit in hits] == [hit["item_id"] for hit in asked["generated"]]


def test_a_search_uses_the_fitted_weight_and_estimates_only_what_is_new(
    copy_of: SearchableRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimated: list[str] = []
    original = semcore.retrieval.priors.Priors._estimated

    def noting(self: Any, identifiers: list[str]) -> Any:
        estimated.extend(identifiers)
        return original(self, identifiers)

    monkeypatch.setattr(semcore.retrieval.priors.Priors, "_estimated", noting)
    asked = read_per_query(copy_of.run / "t2i" / "per_query.jsonl")[3]
    options: dict[str, Any] = {"verifier": "none", "num_beams": NUM_BEAMS, "dtype": "float32"}
    test = Retriever.from_run(copy_of.run, split="test", **options)
    hits = test.search(text=asked["query"], top_k=6)
    assert [hit.item_id for hit in hits] == [hit["item_id"] for hit in asked["generated"]]
    assert test.prior_note(Direction.T2I) == test.confidence_note(Direction.I2T)[:0] == ""
    assert not estimated

    everything = Retriever.from_run(copy_of.run, split="all", **options)
    everything.search(text=asked["query"])
    known = set(identifiers_of(copy_of.run, Direction.T2I, "test").values())
    known |= set(identifiers_of(copy_of.run, Direction.T2I, "val").values())
    new = set(identifiers_of(copy_of.run, Direction.T2I).values()) - known
    filled = read_json(copy_of.run / "metrics.json")["val_corpus"]["t2i"]["train"]  # val's corpus has some of train
    assert set(estimated) < new and len(new - set(estimated)) <= filled
    estimated.clear()
    Retriever.from_run(copy_of.run, split="all", **options).search(text=asked["query"])
    assert not estimated


def test_another_weight_than_the_fitted_one_is_said_to_spoil_confidence(copy_of: SearchableRun) -> None:
    fitted = read_json(copy_of.run / "prior.json")["weights"]["t2i"]
    retriever = Retriever.from_run(copy_of.run, split="val", verifier="none", prior_weight=0.0)
    assert f"{fitted:.2f}" in retriever.confidence_note(Direction.T2I)
    assert retriever.prior_note(Direction.T2I) == ""


def test_where_nothing_was_fitted_nothing_comes_off_and_a_note_says_so(searchable_run: SearchableRun) -> None:
    retriever = Retriever.from_run(searchable_run.run, split="test", verifier="none")
    assert retriever.search(text="a red circle")
    assert "semcore evaluate" in retriever.prior_note(Direction.T2I)
    assert not (searchable_run.run / "priors").exists()


def test_a_killed_estimation_goes_on_where_it_stopped(
    evaluated: SearchableRun, searchable_run: SearchableRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semcore.evaluation.corrected_hits, "IDENTIFIERS_PER_CHUNK", 4)
    original, chunks = semcore.retrieval.priors.estimate_priors, []

    def failing(*arguments: Any) -> Any:
        chunks.append(arguments)
        if len(chunks) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(semcore.retrieval.priors, "estimate_priors", failing)
    with pytest.raises(KeyboardInterrupt):
        main(settings(searchable_run))
    first = chunks[0][2].sequences()
    chunks.append(())
    main(settings(searchable_run))
    assert not any(first == later[2].sequences() for later in chunks[3:])
    for direction in Direction:
        name = f"{direction}/run.generated.trec"
        again, whole = (read_run(run.run / name) for run in (searchable_run, evaluated))
        assert {q: [item for item, _ in hits] for q, hits in again.items()} == {
            q: [item for item, _ in hits] for q, hits in whole.items()
        }


def test_a_model_that_knows_null_queries_tells_the_prior_in_one_pass(searchable_run: SearchableRun) -> None:
    write_json(searchable_run.run / "identifier_model" / NULL_QUERIES, null_queries_record(0.1))
    main(settings(searchable_run, prior_weight=0.5))
    retriever = Retriever.from_run(searchable_run.run, split="test", verifier="none", dtype="float32", device="cpu")
    session = retriever.generator
    for direction in Direction:
        corpus, priors = retriever._corpus(direction), priors_of(searchable_run.run, direction)
        inputs = null_query_inputs(session, direction)
        result = exhaustive_search(session.checkpoint.model, inputs, corpus.index)
        for sequence, score in zip(result.sequences[0], result.scores[0].tolist(), strict=True):
            identifier = corpus.items[corpus.index.items(sequence)[0]].identifier
            assert priors[identifier] == pytest.approx(score, abs=1e-3)


def test_where_val_is_measured_its_queries_meet_weights_fitted_without_them(searchable_run: SearchableRun) -> None:
    main(settings(searchable_run, split="val"))
    weights = read_json(searchable_run.run / "prior.json")["weights"]
    identifiers = identifiers_of(searchable_run.run, Direction.T2I)
    of_identifier = priors_of(searchable_run.run, Direction.T2I)
    ours, paper = (read_run(searchable_run.run / "t2i" / f"run.{n}.trec") for n in ("generated", "generated_paper"))
    used = set()
    for query, found in ours.items():
        before = dict(paper[query])
        gains = np.array([before[item] - score for item, score in found])
        priors = np.array([of_identifier[identifiers[item]] for item, _ in found])
        used.add(round(float(gains @ priors / (priors @ priors)), 3))
    assert 1 < len(used) <= 5
    assert set(weights) == set(Direction)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prior_weight": 1.5}, "--prior-weight"),
        ({"prior_weight": -0.1}, "--prior-weight"),
        ({"num_prior_queries": 0}, "--num-prior-queries"),
        ({"prior_in_search": True, "engine": "transformers"}, "--engine"),
        ({"prior_in_search": True, "constraint": False}, "--constraint"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        EvaluateSettings(tmp_path, **wrong)


def test_a_broken_record_is_named(copy_of: SearchableRun) -> None:
    write_json(copy_of.run / "prior.json", {"weights": {"t2i": "much"}})
    with pytest.raises(UserError, match=r"prior\.json.*semcore evaluate"):
        Retriever.from_run(copy_of.run, verifier="none")
