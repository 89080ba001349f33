"""The benchmark of plans: overlaps and typos, phi beside the head run alone, and a measurement of a tiny model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import plan_stability
from benchmarks.overlaps import measure, overlap, rows_of, table_of
from benchmarks.plan_stability import Settings, open_corpus, rank_by_phi
from benchmarks.wordings import DIFFERENT, PAIRS, TWO, TYPO, Wordings, draw_wordings, with_typo
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.identifier_files import read_identifiers
from semcore.data.run_folder import RunFolder
from semcore.models.extra_modules import write_extras
from semcore.models.set_head import item_scores, new_set_head, padded_units, set_vocabulary, unit_numbers
from semcore.models.set_inference import set_weights
from semcore.retrieval.candidates import CandidateSettings
from semcore.retrieval.generator import query_inputs
from semcore.retrieval.guides import GuideSettings
from semcore.retrieval.open_guide import GuideMaker
from semcore.retrieval.search_settings import SearchSettings, write_search_settings
from semcore.runtime.errors import UserError
from tests.run_fixtures import SearchableRun


@pytest.mark.parametrize(
    ("first", "second", "size", "expected"),
    [("abcd", "badc", 2, 100.0), ("abcd", "cdab", 2, 0.0), ("abcd", "acbd", 2, 50.0), ("ab", "abcd", 4, 50.0)],
)
def test_an_overlap_counts_the_best_of_both(first: str, second: str, size: int, expected: float) -> None:
    assert overlap(first, second, size) == overlap(second, first, size) == expected


@given(st.text(max_size=40), st.integers(0, 2**32))
def test_a_typo_is_one_letter_less_of_a_long_word(sentence: str, seed: int) -> None:
    wrong = with_typo(sentence, np.random.default_rng(seed))
    spans = [word.span() for word in re.finditer(r"[^\W\d_]{5,}", sentence)]
    assert (wrong is None) == (not spans)
    if wrong is not None:
        places = [n for n in range(len(sentence)) if sentence[:n] + sentence[n + 1 :] == wrong]
        assert any(first <= n < end for n in places for first, end in spans)


def test_a_typo_comes_to_every_letter_of_long_words_alone() -> None:
    found = {with_typo("a red circle", np.random.default_rng(seed)) for seed in range(200)}
    assert found == {f"a red {'circle'[:n]}{'circle'[n + 1 :]}" for n in range(6)}
    assert with_typo("a red star", np.random.default_rng(0)) is None


def some_records(number: int) -> Any:
    def sentences(n: int) -> Any:
        return [SimpleNamespace(text=text) for text in (f"circle {n}", f"circle {n}", f"square {n}", f"oval {n}")]

    alone = SimpleNamespace(image_id="alone", sentences=[SimpleNamespace(text="the same")] * 2)
    return [alone, *(SimpleNamespace(image_id=f"image{n}", sentences=sentences(n)) for n in range(number))]


def test_wordings_are_of_one_image_and_of_another() -> None:
    drawn = draw_wordings(some_records(9), 5, seed=1)
    assert len({own.image_id for own in drawn}) == 5 and "alone" not in {own.image_id for own in drawn}
    for own in drawn:
        number = own.image_id.removeprefix("image")
        assert own.sentence != own.others[TWO]
        assert own.sentence.endswith(number) and own.others[TWO].endswith(number)
        assert not own.others[DIFFERENT].endswith(number)
        assert (TYPO in own.others) == (not own.sentence.startswith("oval"))
    assert drawn == draw_wordings(some_records(9), 5, seed=1) != draw_wordings(some_records(9), 5, seed=2)
    with pytest.raises(UserError, match="two test images with two different sentences are needed, found 1"):
        draw_wordings(some_records(1), 5, seed=0)


def test_a_measure_has_overlaps_and_where_the_right_image_is() -> None:
    wordings = [
        Wordings("i1", "one", {TWO: "uno", TYPO: "oe", DIFFERENT: "two"}),
        Wordings("i2", "two", {TWO: "due", DIFFERENT: "one"}),
    ]
    best = {"one": ["i1", "i3"], "uno": ["i1", "i4"], "oe": ["i5", "i6"], "two": ["i2", "i3"], "due": ["i3", "i2"]}
    own = measure("phi, best 2", wordings, best, 2)
    assert {kind: values.tolist() for kind, values in own.overlaps.items()} == {
        TWO: [50.0, 100.0], TYPO: [0.0], DIFFERENT: [50.0, 50.0]
    }  # fmt: skip
    assert (own.found_first, own.found) == (100.0, {TWO: 100.0, TYPO: 0.0})
    two, typo = rows_of(own)
    assert (two.ours, two.peer, typo.ours) == (75.0, 50.0, 0.0)
    assert "2 images; [50.0, 100.0], different images [50.0, 50.0]" in two.note
    assert "| phi, best 2 | 75.0 [50.0, 100.0] | 0.0 [0.0, 0.0] | 50.0 [50.0, 50.0] |" in table_of([own], 2, 6)
    short = [Wordings("i1", "one", {TWO: "uno", DIFFERENT: "two"})]
    assert "| – |" in table_of([measure("phi, best 2", short, best, 2)], 1, 6)


@pytest.fixture
def run_with_head(searchable_run: SearchableRun) -> SearchableRun:
    """A run whose generator has a random set head, evaluated with it as a guide."""
    run = RunFolder(searchable_run.run)
    session, _ = open_corpus(run, load_dataset(searchable_run.data))
    checkpoint = session.checkpoint
    units = set_vocabulary(read_identifiers(run / "identifiers", "t2i"))
    head = new_set_head(checkpoint.model, checkpoint.tokenizer, units)
    with torch.no_grad():
        head.linear.weight.normal_(generator=torch.Generator().manual_seed(0))
    write_extras(run / "identifier_model", checkpoint.model)
    guide = GuideSettings(kind="set", weights={"t2i": 2.0})
    write_search_settings(run / "search.json", SearchSettings(guide, CandidateSettings()))
    return searchable_run


def test_items_are_ordered_by_the_heads_own_scores(run_with_head: SearchableRun) -> None:
    """Beside the head run over the prompts again, one sentence at a time."""
    run = RunFolder(run_with_head.run)
    session, corpus = open_corpus(run, load_dataset(run_with_head.data))
    none: Any = None
    guide: Any = GuideMaker(GuideSettings(kind="set"), run, session, none).make(Direction.T2I, corpus)
    queries = ["a red star", "a blue circle above a square"]
    rows = [row for row in read_identifiers(run / "identifiers", "t2i") if row["item_id"] in corpus.items]
    numbers = unit_numbers(rows, session.checkpoint.model.set_head.units)
    own = {row["item_id"]: numbers[row["identifier"]] for row in rows}
    for query, ranked in zip(queries, rank_by_phi(session, guide, list(corpus.items), queries), strict=True):
        weights = set_weights(session.checkpoint.model, query_inputs(session, Direction.T2I, [query]))
        sums = item_scores(weights, padded_units(own.values()))[0].tolist()
        counts = [len(units) for units in own.values()]
        means = sums if len(set(counts)) == 1 else [one / count for one, count in zip(sums, counts, strict=True)]
        phi = dict(zip(own, means, strict=True))
        assert sorted(ranked) == sorted(corpus.items)
        assert [phi[item_id] for item_id in ranked] == pytest.approx(sorted(phi.values(), reverse=True), abs=1e-4)
        assert max(means) > min(means)


def test_a_run_is_measured_and_left_as_it_is(run_with_head: SearchableRun, tmp_path: Path) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        found = [path for path in run_with_head.run.rglob("*") if path.is_file()]
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}

    before = files()
    asked: dict[str, Any] = {
        "num_images": 4,
        "num_beams": 10,
        "json": tmp_path / "rows.json",
        "table": tmp_path / "table.md",
    }
    plan_stability.main(Settings(run_with_head.run, **asked))
    assert files() == before
    record = json.loads((tmp_path / "rows.json").read_text())
    num_items = record["num_items"]
    names = [
        f"{name}, {kind}"
        for name in (
            "phi, best 10", f"phi, best {num_items // 3}", "beam search, best 10", "guided beam search, best 10"
        )
        for kind in PAIRS[:2]
    ]  # fmt: skip
    assert [row["name"] for row in record["rows"]] == names
    assert all(0 <= row["ours"] <= 100 and 0 <= row["peer"] <= 100 for row in record["rows"])
    assert (record["num_images"], record["seed"]) == (4, 0)
    assert (tmp_path / "table.md").read_text().count("\n| ") == 5


def test_a_run_without_a_head_is_refused(searchable_run: SearchableRun) -> None:
    with pytest.raises(UserError, match="the guide set reads a set head, and .* has none"):
        plan_stability.main(Settings(searchable_run.run))
