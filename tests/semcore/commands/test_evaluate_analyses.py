"""Analyses of an evaluation: retention, exhaustive search, confidence, no match, false negatives, leaks and cost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import semcore.evaluation.cost
import semcore.retrieval.batch
from semcore.commands.evaluate import EvaluateSettings, main
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.evaluation.per_query import read_per_query
from semcore.retrieval.retriever import Retriever
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_jsonl
from semcore.verification.no_match_rule import NoMatchRule
from semcore.verification.score_fusion import read_fusion_settings
from tests.run_fixtures import SearchableRun

CPU: dict[str, Any] = {"dtype": "float32", "device": "cpu"}


def settings(run: SearchableRun, **others: Any) -> EvaluateSettings:
    small: dict[str, Any] = {"verifier": "likelihood", "num_beams": 2, "num_candidates": 5, "prior_weight": 0.0}
    small |= {"ablations": False, "num_order_queries": 0, "num_retention_queries": 10, **others}
    return EvaluateSettings(run.run, **CPU, **small)


@pytest.fixture(scope="module")
def measured(finished_training: SearchableRun, tmp_path_factory: pytest.TempPathFactory) -> SearchableRun:
    """A measured run with all analyses, not to be changed."""
    folder = tmp_path_factory.mktemp("analysed") / "run"
    shutil.copytree(finished_training.run, folder)
    run = SearchableRun(finished_training.data, folder, finished_training.base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semcore.evaluation.cost, "SIZES", (100, 400))
        patch.setattr(semcore.evaluation.cost, "BEAMS", (1, 3))
        patch.setattr(semcore.evaluation.cost, "NUM_QUERIES", 3)
        patch.setattr(semcore.retrieval.batch, "QUERIES_PER_CHUNK", 4)
        main(settings(run, cost=True))
    return run


@pytest.fixture(scope="module")
def metrics(measured: SearchableRun) -> dict[str, Any]:
    return read_json(measured.run / "metrics.json")


def rows_of(run: SearchableRun, direction: str) -> list[dict[str, Any]]:
    return read_per_query(run.run / direction / "per_query.jsonl")


@pytest.mark.slow
def test_what_is_retained_is_what_explanations_say(measured: SearchableRun, metrics: dict[str, Any]) -> None:
    """Each query by itself, explained, loses its right item where the retention of all says."""
    figures = metrics["prefix_retention"]["t2i"]
    assert (figures["num_queries"], figures["num_beams"]) == (10, 2)
    shares = [row["retained"] for row in figures["by_depth"]]
    assert figures["found"] + figures["outranked"] + sum(figures["lost_at_word"].values()) == pytest.approx(100)
    assert shares[-1] == pytest.approx(figures["found"])
    main(settings(copied := copy_of(measured), num_retention_queries=1000, num_no_match_queries=0, limit=10))
    whole = read_json(copied.run / "metrics.json")["prefix_retention"]["t2i"]
    retriever = Retriever.from_run(measured.run, split="test", num_beams=2, prior_weight=0.0, **CPU)
    lost: list[int | None] = []
    for row in rows_of(copied, "t2i"):
        course = retriever.explain(text=row["query"], item_id=row["right"][0], top_k=1)["search"]
        lost.append(course["depth"])
    for depth_row in whole["by_depth"][:3]:
        kept = sum(depth is None or depth > depth_row["depth"] for depth in lost)
        assert depth_row["retained"] == pytest.approx(100 * kept / len(lost))
    assert any(depth is not None for depth in lost)


def copy_of(run: SearchableRun) -> SearchableRun:
    """Copy a measured run without its evaluation."""
    folder = run.run.with_name("copy")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run.run, folder)
    for name in ("metrics.json", "t2i/per_query.jsonl"):
        (folder / name).unlink()
    shutil.rmtree(folder / "t2i")
    shutil.rmtree(folder / "i2t")
    return SearchableRun(run.data, folder, run.base)


def test_an_exhaustive_search_loses_nothing(metrics: dict[str, Any]) -> None:
    for direction, num_queries in (("t2i", 30), ("i2t", 6)):
        figures = metrics["exhaustive"][direction]
        assert figures["num_queries"] == num_queries  # fewer than fifty: all
        assert figures["beam"]["R@10"] == pytest.approx(metrics[direction]["generated"]["R@10"])
        assert figures["exhaustive"]["R@10"] >= figures["beam"]["R@10"] - 1e-9
        assert figures["search_errors"] == pytest.approx(
            figures["exhaustive"]["R@10"] - figures["beam"]["R@10"]
        )  # what a beam finds has an exact score, so that here it is among the first ten of all
        assert figures["model_errors"] == pytest.approx(100 - figures["exhaustive"]["R@10"])
    assert metrics["exhaustive"]["t2i"]["exhaustive"]["R@10"] == 100  # of six images


def test_confidence_is_measured_on_every_candidate(measured: SearchableRun, metrics: dict[str, Any]) -> None:
    """The same figures, from a search of each query with what the evaluation has fitted."""
    retriever = Retriever.from_run(
        measured.run, split="test", num_beams=2, num_candidates=5, prior_weight=0.0, **CPU
    )  # fmt: skip
    rows = rows_of(measured, "t2i")
    hits = retriever.search(text=[row["query"] for row in rows], top_k=2)
    cases = [
        (hit.confidence, hit.item_id in row["right"])
        for row, own in zip(rows, hits, strict=True)
        for hit in own
        if hit.confidence is not None
    ]
    figures = metrics["calibration"]["t2i"]
    assert figures["candidates"]["num_cases"] == len(cases)
    brier = sum((confidence - right) ** 2 for confidence, right in cases) / len(cases)
    assert figures["candidates"]["brier"] == pytest.approx(brier, abs=1e-4)
    assert figures["best_hits"]["num_cases"] == 30
    right_first = metrics["t2i"]["verified"]["R@1"]
    assert 100 * figures["best_hits"]["base_rate"] == pytest.approx(right_first)
    assert figures["coverage_risk"]["points"][-1]["risk"] == pytest.approx(100 - right_first)
    refused = 100 * sum(bool(own[0].no_match) for own in hits) / len(hits)
    assert metrics["no_match"]["t2i"]["splits"]["test"]["refused"] == pytest.approx(refused)


def test_queries_without_an_answer_are_searched_without_their_items(metrics: dict[str, Any]) -> None:
    for direction, num_test, num_val in (("t2i", 10, 5), ("i2t", 2, 1)):
        splits = metrics["no_match"][direction]["splits"]
        assert (splits["test"]["num_without_answer"], splits["val"]["num_without_answer"]) == (num_test, num_val)
        assert f"generate {direction} test without answers" in metrics["seconds"]
        assert splits["test"]["refused"] is not None and splits["test"]["caught"] is not None
        assert list(splits["test"]["auroc"]) == ["log_sum_exp", "score", "confidence", "generator", "verifier"]


def test_the_threshold_is_the_searchs(measured: SearchableRun, metrics: dict[str, Any]) -> None:
    fusions = read_fusion_settings(measured.run / "verification.json").fusions["likelihood"]
    for direction in Direction:
        threshold = metrics["no_match"][direction]["threshold"]
        assert fusions[direction].no_match == (None if threshold is None else NoMatchRule("log_sum_exp", threshold))


def test_false_negatives_are_wrong_and_preferred_by_both(measured: SearchableRun, metrics: dict[str, Any]) -> None:
    sentences = {r.image_id: {s.text for s in r.sentences} for r in load_dataset(measured.data).images}
    listed = 0
    for direction in ("t2i", "i2t"):
        counts = metrics["false_negatives"][direction]
        entries = list(read_jsonl(measured.run / direction / "false_negatives.jsonl"))
        assert len(entries) == counts["num_agreed"] <= counts["num_wrong"] <= counts["num_queries"]
        assert counts["num_certain"] == sum(entry["certain"] for entry in entries)
        for entry in entries:
            assert entry["item_id"] not in entry["right"]
            assert entry["generator"] >= entry["generator_right"]
            assert entry["verifier_right"] is None or entry["verifier"] >= entry["verifier_right"]
            if direction == "t2i":
                assert entry["certain"] == (entry["query"] in sentences[entry["item_id"]])
        confidences = [entry["confidence"] for entry in entries]
        assert confidences == sorted(confidences, reverse=True)
        listed += len(entries)
    assert listed
    retriever = Retriever.from_run(measured.run, split="test", num_beams=2, prior_weight=0.0, **CPU)
    for entry in list(read_jsonl(measured.run / "t2i" / "false_negatives.jsonl"))[:5]:
        [right] = entry["right"]
        for item_id, score in ((entry["item_id"], entry["generator"]), (right, entry["generator_right"])):
            found = retriever.explain(text=entry["query"], item_id=item_id)
            assert found["generator"]["score"] == pytest.approx(score, abs=1e-3)


def test_leaks_are_told(metrics: dict[str, Any]) -> None:
    check = metrics["leak_check"]
    assert (check["protocol"], check["num_images"], check["num_sentences"]) == ("inductive", 6, 30)
    assert check["num_shared_images"] == 0
    assert [own["answer"] for own in check["backbones"]] == ["unknown"]  # random weights in a folder of no name


def test_cost_grows_with_the_corpus(metrics: dict[str, Any]) -> None:
    rows = metrics["cost"]["t2i"]
    assert [(row["num_items"], row["num_beams"]) for row in rows] == [(6, 1), (6, 2), (6, 3), (100, 2), (400, 2)]
    assert all(row["seconds_a_query"] > 0 and row["peak_memory_bytes"] > 2**20 for row in rows)
    sizes = [row["index_bytes"] for row in rows if row["num_beams"] == 2]
    assert sizes == sorted(sizes)
    identifiers = [row["num_identifiers"] for row in rows if row["num_beams"] == 2]
    assert identifiers[1] > identifiers[0]  # every round stands under another cluster
    assert identifiers[2] == identifiers[1]  # as long as there are clusters


def test_the_report_has_every_section(measured: SearchableRun) -> None:
    markdown = (measured.run / "report.md").read_text(encoding="utf-8")
    page = (measured.run / "report.html").read_text(encoding="utf-8")
    for heading in (
        "Prefix retention", "Exhaustive search", "Calibration", "Risk and coverage", "No-match detection",
        "False-negative audit", "Efficiency", "Data leakage",
    ):  # fmt: skip
        assert f" {heading}\n" in markdown, heading
        assert f">{heading}<" in page, heading
    assert "Not measured" not in markdown
    assert "<script" not in page and page.count("<polyline") >= 8


def test_analyses_can_be_left_out(searchable_run: SearchableRun) -> None:
    off = {"num_no_match_queries": 0, "num_retention_queries": 0, "num_exhaustive_queries": 0}
    main(settings(searchable_run, verifier="none", directions=["t2i"], **off))
    metrics = read_json(searchable_run.run / "metrics.json")
    assert not {"prefix_retention", "exhaustive", "no_match", "cost", "false_negatives"} & metrics.keys()
    report = (searchable_run.run / "report.md").read_text(encoding="utf-8")
    assert "This evaluation did not measure prefix retention, exhaustive search, " in report


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"no_match_refused": -0.1}, "--no-match-refused is a share from 0 to below 1, found -0.1"),
        ({"no_match_refused": 5.0}, "--no-match-refused is a share from 0 to below 1, found 5"),
        ({"num_retention_queries": -1}, "--num-retention-queries must be 0 or more, found -1"),
        ({"num_exhaustive_queries": -1}, "--num-exhaustive-queries must be 0 or more, found -1"),
    ],
)
def test_wrong_numbers_are_named(others: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        EvaluateSettings(Path("r"), **others)
    assert str(error.value) == sentence
