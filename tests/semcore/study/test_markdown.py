"""The table of a study whose runs were measured in one direction."""

from __future__ import annotations

from typing import Any

from semcore.study.markdown import table_of_variants
from semcore.study.plots import lines_of


def test_only_measured_directions_have_columns_and_lines() -> None:
    score = {"mean": 50.0, "low": 40.0, "high": 60.0, "difference": {"mean": 0.0, "low": 0, "high": 0, "p_value": 1}}
    row = {"name": "full", "label": "Full", "paper": {}, "ranking": "generated"}
    row |= {"t2i": dict.fromkeys(("R@1", "R@5", "R@10"), score)}
    study: dict[str, Any] = {"variants": [row], "reference": "full", "num_queries": {"t2i": 25}}
    table = table_of_variants(study, {"variants": ["full"]})
    assert table.splitlines()[0] == "|  | text → image R@1 | text → image R@5 | text → image R@10 |"
    assert list(lines_of([row], {"axis": "x", "lines": None, "numbers": {"x": {"full": 4}}})) == ["t2i"]
