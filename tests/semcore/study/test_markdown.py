"""The table of a study whose runs were measured in one direction."""

from __future__ import annotations

from typing import Any

from semcore.study.markdown import rows_of, table_of_costs, table_of_variants
from semcore.study.plots import lines_of


def test_only_measured_directions_have_columns_and_lines() -> None:
    score = {"mean": 50.0, "low": 40.0, "high": 60.0, "difference": {"mean": 0.0, "low": 0, "high": 0, "p_value": 1}}
    row = {"name": "full", "label": "Full", "paper": {}, "ranking": "generated"}
    row |= {"t2i": dict.fromkeys(("R@1", "R@5", "R@10"), score)}
    study: dict[str, Any] = {"variants": [row], "reference": "full", "num_queries": {"t2i": 25}}
    table = table_of_variants(study, {"variants": ["full"]})
    assert table.splitlines()[0] == "|  | text → image R@1 | text → image R@5 | text → image R@10 |"
    assert list(lines_of([row], {"axis": "x", "lines": None, "numbers": {"x": {"full": 4}}})) == ["t2i"]


def test_a_table_may_have_its_own_ranking_and_says_what_rows_take() -> None:
    def score(mean: float) -> dict[str, Any]:
        return {"mean": mean, "low": 1.0, "high": 99.0, "difference": {"mean": 0.0, "low": 0, "high": 0, "p_value": 1}}

    row = {"name": "full", "label": "Full", "paper": {"R@1": 62.8}, "paper_protocol": "transductive"}
    row |= {"ranking": "verified", "t2i": dict.fromkeys(("R@1", "R@5", "R@10"), score(70))}
    study: dict[str, Any] = {"variants": [row], "reference": "full", "num_queries": {"t2i": 25}}
    costs = {"protocol": "inductive", "training_seconds": 81.4, "verification_seconds": 0.0321}
    costs |= {"t2i": {"R@1": 43.0, "as they count": 46.8, "verified": None, "generation_seconds": 0.0361}}
    costs["t2i"] |= {"shared": 10.0, "tokens": 5.0, "index_bytes": 37.4}  # type: ignore[operator]
    own = {"full": {"t2i": dict.fromkeys(("R@1", "R@5", "R@10"), score(50))}}
    table = {"variants": ["full"], "ranking": "generated", "scores": own, "costs": {"full": costs}}
    assert rows_of(study, table)[0]["t2i"]["R@1"]["mean"] == 50
    assert "| Full | 62.8 | 50.0 [1.0, 99.0] |" in table_of_variants(study, table)
    assert table_of_costs(study, table).splitlines()[-1] == (
        "| Full | inductive | 62.8, transductive | 81 | 0.032 | 43.0 / 46.8 / – | 0.036 | 10.0 / 5.0 / 37 |"
    )
    without = {**table, "paper": False}
    assert "| Full | 50.0 [1.0, 99.0] |" in table_of_variants(study, without)
    assert "| Full | inductive | 81 | 0.032 |" in table_of_costs(study, without)
