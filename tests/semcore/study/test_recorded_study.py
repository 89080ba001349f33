"""What the repository says of the recorded study is what was measured."""

from __future__ import annotations

import re
from pathlib import Path

from semcore.files import read_json
from semcore.study.writing import render_study

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "benchmarks" / "results"


def test_the_recorded_page_is_made_of_the_recorded_figures() -> None:
    page = (RESULTS / "ablations.md").read_text(encoding="utf-8")
    assert page == render_study(read_json(RESULTS / "ablations.json"))
    for plot in re.findall(r"!\[.*?\]\((\S+)\)", page):
        assert (RESULTS / plot).is_file()


def test_the_recipes_table_is_the_recorded_one() -> None:
    readme = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- ablations: \S+ -->\n\n(.*?)\n\n<!-- /ablations -->", readme, flags=re.DOTALL)
    assert table in (RESULTS / "ablations.md").read_text(encoding="utf-8")
