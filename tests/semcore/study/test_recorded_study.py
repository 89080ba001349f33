"""The repository's statements on the recorded study agree with its figures."""

from __future__ import annotations

import re
from pathlib import Path

from semcore.runtime.files import read_json

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


def test_the_table_of_the_documentation_is_the_recorded_one() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- ablations: \S+ -->\n\n(.*?)\n\n<!-- /ablations -->", page, flags=re.DOTALL)
    assert table in (RESULTS / "ablations.md").read_text(encoding="utf-8")
