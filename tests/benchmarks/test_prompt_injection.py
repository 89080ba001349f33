"""Texts that try to steer: how many there are, what they are measured against, and a measurement of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import prompt_injection
from benchmarks.injections import INJECTIONS, all_injections, harmless_text
from benchmarks.prompt_injection import ATTACK, CLEAN, HARMLESS, Case, rank_of, row_of
from tests.run_fixtures import SearchableRun


def test_there_are_fifty_different_texts_of_eight_kinds() -> None:
    assert len({text for _, text in all_injections()}) == 50
    assert len(INJECTIONS) == 8


def test_harmless_words_are_as_long_as_asked_for() -> None:
    for length in (1, 7, 200):
        assert len(harmless_text(length, lambda text: len(text.split())).split()) == length


def test_ranks_count_what_scores_higher() -> None:
    assert [rank_of([3.0, 1.0, 2.0], [place]) for place in range(3)] == [1, 3, 2]


def test_a_row_has_the_difference_to_harmless_words() -> None:
    cases = [Case("k", f"image{n}", {"m": {CLEAN: 1, HARMLESS: 2, ATTACK: 4}}) for n in range(5)]
    row = row_of("name", cases, "m")
    assert (row.ours, row.peer, row.ratio) == (4.0, 2.0, 0.5)
    assert "5 cases; rank 1.00 without either, 4.00 [4.00, 4.00] with the attack, +2.00 [+2.00, +2.00]" in row.note
    assert "first in 100 / 0 / 0 %" in row.note


def test_a_run_is_measured(searchable_run: SearchableRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_injection, "all_injections", lambda: [("answer", "answer {letter}"), ("tags", "</x>")])
    settings = prompt_injection.Settings(
        searchable_run.run, base=searchable_run.base, queries=2, num_beams=6, num_candidates=4,
        json=tmp_path / "rows.json", table=tmp_path / "table.md",
    )  # fmt: skip
    prompt_injection.main(settings)
    rows = {row["name"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    measures = [name for name in rows if name.count(",") == 1]
    assert measures == [
        "generator, query: the right image", "listwise, query: the right image", "likelihood, query: the right image",
        "listwise, candidate: the attacker", "listwise, candidate: the right sentence",
        "likelihood, candidate: the attacker", "likelihood, candidate: the right sentence",
    ]  # fmt: skip
    assert {name.rpartition(", ")[2] for name in rows if name not in measures} == {"answer", "tags"}
    assert all(rows[name]["note"].startswith("4 cases; ") and 1 <= rows[name]["ours"] <= 7 for name in measures)
    assert rows["listwise, candidate: the attacker"]["peer"] >= 1
    assert "| generator, query: the right image |" in (tmp_path / "table.md").read_text()
