"""The repository's statements on the recorded studies agree with their figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from semcore.runtime.files import read_json
from semcore.study.markdown import render_study

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "benchmarks" / "results"


def test_the_recorded_page_has_the_recorded_figures() -> None:
    page = (RESULTS / "ablations.md").read_text(encoding="utf-8")
    for row in read_json(RESULTS / "ablations.json")["variants"]:
        line = next(line for line in page.splitlines() if line.startswith(f"| {row['label']} | "))
        means = [row[direction][metric]["mean"] for direction in ("t2i", "i2t") for metric in ("R@1", "R@5")]
        assert re.findall(r"\| (\d+\.\d) [\[(]", line) == [f"{mean:.1f}" for mean in means]
    for plot in re.findall(r"!\[.*?\]\((\S+)\)", page):
        assert (RESULTS / plot).is_file()


def test_the_page_of_systems_is_what_their_study_says() -> None:
    assert (RESULTS / "systems.md").read_text(encoding="utf-8") == render_study(read_json(RESULTS / "systems.json"))


@pytest.mark.parametrize("direction", ["t2i", "i2t"])
def test_items_are_found_at_most_as_often_as_their_identifiers(direction: str) -> None:
    tables = [table for table in read_json(RESULTS / "systems.json")["tables"] if "costs" in table]
    assert tables
    for costs in (costs for table in tables for costs in table["costs"].values()):
        own = costs[direction]
        assert own["R@1"] <= own["as they count"]
        assert own["shared"] > 0 or own["R@1"] == own["as they count"]


@pytest.mark.parametrize("name", ["ablations", "systems"])
def test_the_table_of_the_documentation_is_the_recorded_one(name: str) -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    (table,) = re.findall(rf"<!-- {name}: \S+ -->\n\n(.*?)\n\n<!-- /{name} -->", page, flags=re.DOTALL)
    assert table in (RESULTS / f"{name}.md").read_text(encoding="utf-8")
