"""The README's tables: made from a results file, and naming verifiers that do not improve the ranking."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quickstart import Settings
from benchmarks.readme_tables import LABELS, METRICS, STAGES, measured, tables, works, write_tables
from semcore.runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "benchmarks/results/quickstart.json"


def held(alone: bool = False, listwise: float = 42.3) -> dict[str, float]:
    """Return rows in which likelihood gains and listwise has the given R@1."""
    rankings = {"generated": 42.3, "verified, listwise": listwise, "verified, likelihood": 60.4, "ceiling": 78.7}
    rankings |= {"listwise alone": 7.9} if alone else {}
    rows = {f"{d}, {name}, {m}": figure for d in LABELS for name, figure in rankings.items() for m in METRICS}
    return rows | {f"{stage}, seconds": 17.04 for stage in STAGES}


def ranking_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if "→" in line and line.startswith("|")]


def test_a_verifier_that_gains_nothing_is_no_row_called_verified() -> None:
    text = tables(held())
    assert not [line for line in ranking_lines(text) if "listwise" in line]
    assert "| text → image | verified, likelihood | 60.4 | 60.4 | 60.4 | 60.4 |" in text
    assert "from 42.3 to 42.3" in " ".join(text.split())


def test_its_own_order_is_shown_where_it_was_measured() -> None:
    text = tables(held(alone=True))
    assert "| image → text | listwise alone | 7.9 | 7.9 | 7.9 | 7.9 |" in text
    assert "verified, listwise" not in text


def test_a_verifier_that_gains_has_its_row_and_no_excuse() -> None:
    text = tables(held(alone=True, listwise=50.0))
    assert works(held(listwise=50.0), "listwise") and not works(held(listwise=43.0), "listwise")
    assert "| text → image | verified, listwise | 50.0 |" in text
    assert "does not work" not in text
    assert "| caption | 17 | – |" in text


def test_a_document_is_rewritten_between_its_markers(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"before\n<!-- results: {RESULTS} -->\nold\n<!-- /results -->\nafter\n", encoding="utf-8")
    write_tables(document, RESULTS, held())
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- results") and text.endswith("<!-- /results -->\nafter\n")
    assert tables(held()) in text and "old" not in text
    write_tables(document, RESULTS, held())
    assert document.read_text(encoding="utf-8") == text
    with pytest.raises(UserError, match="other.json"):
        write_tables(document, "other.json", held())


def test_the_readme_has_the_tables_of_its_results_file() -> None:
    rows = json.loads((ROOT / RESULTS).read_text(encoding="utf-8"))["rows"]
    figures = {row["name"]: row["ours"] for row in rows if row["ours"] is not None}
    assert measured(figures) == ["listwise", "likelihood"]
    block = f"<!-- results: {RESULTS} -->\n\n{tables(figures)}\n\n<!-- /results -->"
    assert block in (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_name_the_file_that_holds_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--json"):
        Settings(tmp_path, readme=tmp_path / "README.md")
