"""Sections of the report, and the report of runs that are half done, old, bare, small or without a hit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from semcore import __version__
from semcore.data.directions import Direction
from semcore.evaluation.metrics import retrieval_metrics
from semcore.evaluation.no_match import QueryValues, auroc, measure_threshold
from semcore.evaluation.per_query import write_per_query
from semcore.evaluation.reliability import coverage_risk, reliability
from semcore.report import write_report
from semcore.report.confidence_sections import calibration_section, no_match_section, risk_section
from semcore.report.plots import HEIGHT, PERCENT, WIDTH, Axis, bar_plot, line_plot, round_axis
from semcore.report.run_sections import identifiers_section, leak_section
from semcore.report.search_sections import cost_section, exhaustive_section, retention_section
from semcore.retrieval.hits import GeneratedHit
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json, write_jsonl
from tests.semcore.report.small_run import ATTACKS, change_json, visible
from tests.semcore.report.test_html import Page

CONFIDENCES, RIGHT = [0.95, 0.8, 0.7, 0.3, 0.1], [True, True, False, True, False]
RETENTION = {
    "num_queries": 200,
    "num_beams": 20,
    "by_depth": [{"depth": 1, "retained": 100.0}, {"depth": 2, "retained": 90.0}, {"depth": 3, "retained": 85.0}],
    "found": 85.0,
    "outranked": 5.0,
    "lost_at_word": {"keyword 1": 10.0},
}
EXHAUSTIVE = {
    "num_queries": 50, "num_beams": 20, "num_identifiers": 447,
    "exhaustive": {"R@1": 60.0, "R@5": 92.0, "R@10": 96.0}, "beam": {"R@1": 60.0, "R@5": 90.0, "R@10": 92.0},
    "same_first": 98.0, "search_errors": 4.0, "model_errors": 4.0,
}  # fmt: skip
LEAKS = {
    "protocol": "inductive", "num_images": 500, "num_sentences": 2500, "num_shared_images": 0,
    "num_shared_sentences": 12, "backbones": [{"model": "a | b", "answer": "unknown", "reason": "<b>nobody</b> knows"}],
}  # fmt: skip


def calibration() -> dict[str, Any]:
    diagram = reliability(CONFIDENCES, RIGHT)
    return {"candidates": diagram, "best_hits": diagram, "coverage_risk": coverage_risk(CONFIDENCES, RIGHT)}


def no_match(threshold: float | None) -> dict[str, Any]:
    values = QueryValues(CONFIDENCES, RIGHT, [0.2, 0.5])
    areas = {"log_sum_exp": auroc(values), "confidence": None}
    split = {**measure_threshold(values, threshold), "auroc": areas}
    return {"of": "log_sum_exp", "wanted_refused": 5.0, "threshold": threshold, "splits": {"test": split}}


def cost_rows() -> list[dict[str, Any]]:
    settings = [(500, 1), (500, 20), (500, 50), (10_000, 20), (100_000, 20)]
    return [
        {
            "num_items": items, "num_identifiers": items, "num_beams": beams, "num_queries": 32,
            "index_bytes": items * 30, "index_s": 0.1, "seconds_a_query": 0.001 * beams, "queries_a_second": 10.0,
            "peak_memory_bytes": 2**29,
        }
        for items, beams in settings
    ]  # fmt: skip


def with_analyses(run: Path) -> Path:
    """Give a run all analyses, an audit with hostile sentences among them."""
    entries = [
        {
            "query_id": f"scene{number}-0", "query": ATTACKS[f"scene{number}-0"], "item_id": "scene5",
            "right": [f"scene{number}"], "generator": -1.0, "generator_right": -2.0, "verifier": 3.0,
            "verifier_right": None, "confidence": 0.75, "certain": number == 1,
        }
        for number in (1, 2, 3)
    ]  # fmt: skip
    write_jsonl(run / "t2i" / "false_negatives.jsonl", entries)
    change_json(
        run / "metrics.json",
        prefix_retention={"t2i": RETENTION},
        exhaustive={"t2i": EXHAUSTIVE},
        calibration={"t2i": calibration()},
        no_match={"t2i": no_match(0.6)},
        cost={"t2i": cost_rows()},
        false_negatives={"t2i": {"num_queries": 5, "num_wrong": 4, "num_agreed": 3, "num_certain": 1}},
        leak_check=LEAKS,
    )
    return run


def reports(run: Path) -> tuple[str, str]:
    markdown, page = write_report(run)
    return markdown.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")


def test_every_section_is_in_both_reports(run_folder: Path) -> None:
    markdown, source = reports(with_analyses(run_folder))
    page = Page(source)  # well-formed
    for heading in (
        "### Prefix retention", "### Exhaustive search", "### Calibration", "### Risk and coverage",
        "### No-match detection", "### Efficiency", "### False-negative audit", "## Data leakage",
    ):  # fmt: skip
        assert f"\n{heading}\n" in markdown, heading
        assert heading.strip("# ") in page.text
    assert "| retained, % | 100.0 | 90.0 | 85.0 |" in markdown
    assert "| test | 5 | 2 | 40.0 | 100.0 | 66.7 |" in markdown
    assert "| AUROC | log_sum_exp | confidence |" in markdown.replace("\\", "")
    assert "| test | 0.700 | – |" in markdown
    assert len(page.all("polyline")) == 6  # retention, two reliabilities, risk, two costs
    assert {"script", "iframe", "link"}.isdisjoint(name for name, _ in page.elements)


def test_hostile_sentences_of_the_audit_are_shown_as_they_are(run_folder: Path) -> None:
    markdown, source = reports(with_analyses(run_folder))
    shown = " ".join(Page(source).text)
    for attack in ATTACKS.values():
        assert visible(attack) in shown
    assert "<b>nobody" not in source and "<script>alert" not in source
    audit = markdown[markdown.index("### False-negative audit") : markdown.index("## Image")]
    assert "<script>" not in audit
    assert "![image scene5](report_images/scene5.png)" in audit
    assert "verifier 3.00, labelled not on the shortlist" in audit
    assert audit.count("\n| ") == 4  # a header and three rows


def test_a_measured_run_without_pictures_shows_ids(run_folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data")
    markdown, source = reports(with_analyses(run_folder))
    assert "Without pictures and sentences: the dataset of" in markdown
    assert "| scene5 | scene1 |" in markdown
    assert "<img" not in source


def test_a_run_that_is_half_measured_is_told_the_command(run_folder: Path) -> None:
    (run_folder / "i2t" / "per_query.jsonl").unlink()
    with pytest.raises(UserError) as error:
        write_report(run_folder)
    assert str(error.value) == (
        f"{run_folder}/i2t/per_query.jsonl: there is no such file; write it with "
        f"`rm {run_folder}/metrics.json && semcore evaluate --run {run_folder}`"
    )
    (run_folder / "metrics.json").unlink()
    with pytest.raises(UserError, match="there is no such file, so there is nothing to report; first run `"):
        write_report(run_folder)


def test_a_run_of_an_older_version_says_what_it_did_not_measure(run_folder: Path) -> None:
    change_json(run_folder / "manifest.json", semcore="0.0.9")
    markdown, source = reports(run_folder)
    assert f"measured by semcore 0.0.9, this report is written by {__version__}" in markdown.replace("\\", "")
    missing = "This evaluation did not measure prefix retention, exhaustive search, calibration, no-match detection, "
    assert missing in markdown.replace("\\", "") and missing in source
    assert "False-negative audit" not in markdown


def test_rows_of_another_version_are_refused_in_a_sentence(run_folder: Path) -> None:
    metrics = read_json(run_folder / "metrics.json")
    metrics["t2i"]["generated_paper"] = metrics["t2i"]["generated"]
    write_json(run_folder / "metrics.json", metrics)
    with pytest.raises(UserError, match="lacks the ranks of generated_paper, which metrics.json has: they are of diff"):
        write_report(run_folder)
    del metrics["t2i"]["generated_paper"], metrics["t2i"]["generated"]
    write_json(run_folder / "metrics.json", metrics)
    with pytest.raises(UserError, match="does not have the generator's scores of t2i: another version has written it"):
        write_report(run_folder)


@pytest.mark.parametrize("num_hits", [0, 1])
def test_one_query_is_enough_with_a_hit_or_without(run_folder: Path, num_hits: int) -> None:
    hits = {"scene0-0": [GeneratedHit("scene1", "<|cluster_3|>", -1.0)][:num_hits]}
    ranked = {"scene0-0": [("scene1", 0.5)][:num_hits]}
    write_per_query(
        run_folder / "t2i" / "per_query.jsonl", {"scene0-0": "a word"}, {"scene0-0": {"scene0"}}, hits, ranked
    )
    scores = retrieval_metrics({"scene0-0": ["scene1"][:num_hits]}, {"scene0-0": {"scene0"}}, 8)
    cases = [0.5][:num_hits], [False][:num_hits]
    diagram = reliability(*cases)
    figures = {"candidates": diagram, "best_hits": diagram, "coverage_risk": coverage_risk(*cases)}
    write_json(
        run_folder / "metrics.json",
        {
            "t2i": {"generated": scores, "verified": scores},
            "calibration": {"t2i": figures},
            "no_match": {
                "t2i": {
                    "of": "log_sum_exp", "wanted_refused": 5.0, "threshold": None,
                    "splits": {"test": {**measure_threshold(QueryValues(*cases, []), None), "auroc": {}}},
                }
            },
        },
    )  # fmt: skip
    markdown, source = reports(run_folder)
    assert "1 queries" in markdown or "1 query" in markdown
    assert "Not on the shortlist" in markdown
    Page(source)
    assert ("No query has a hit with a confidence" in markdown) == (num_hits == 0)
    assert "On val no threshold that refuses 5 % of the queries with an answer" in markdown.replace("\\", "")


def test_an_evaluation_of_no_query_is_refused(run_folder: Path) -> None:
    (run_folder / "t2i" / "per_query.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no query; write it anew with `"):
        write_report(run_folder)


def test_plots_stay_inside_and_rise() -> None:
    plot = line_plot(
        "", {"one": [(0, 0), (50, 40), (100, 100)], "two": [(0, 100)]}, x=PERCENT, y=PERCENT, x_label="", y_label=""
    )
    [one, two] = plot.lines
    assert (one.style, two.style) == ("first", "second")
    across, up = zip(*one.dots, strict=True)
    assert list(across) == sorted(across) and list(up) == sorted(up, reverse=True)
    assert all(0 <= x <= WIDTH for x in across) and all(0 <= y <= HEIGHT for y in up)
    logarithmic = line_plot(
        "", {"": [(10, 1), (100, 1), (1000, 1)]}, x=Axis(10, 1000, {}, logarithmic=True), y=PERCENT, x_label="",
        y_label="",
    )  # fmt: skip
    first, middle, last = (x for x, _ in logarithmic.lines[0].dots)
    assert middle == pytest.approx((first + last) / 2, abs=0.1)


def test_bars_stand_on_the_ground_side_by_side() -> None:
    plot = bar_plot(
        "", {str(number): 10.0 * number for number in range(1, 31)}, y=Axis(0, 300, {}), x_label="", y_label=""
    )
    assert len(plot.bars) == 30 and len(plot.x_ticks) <= 12
    ground = {round(bar.y + bar.height, 1) for bar in plot.bars}
    assert len(ground) == 1
    for bar, following in zip(plot.bars, plot.bars[1:], strict=False):
        assert bar.x + bar.width < following.x and bar.height <= following.height


@pytest.mark.parametrize("highest", [0.0, 0.004, 0.7, 1.0, 3.2, 37, 99.9, 100, 101, 123_456])
def test_an_axis_ends_at_a_round_number_above(highest: float) -> None:
    axis = round_axis(highest)
    assert axis.low == 0 and axis.high >= highest
    assert f"{axis.high:e}".rstrip("0")[0] in "125" and axis.high <= max(10 * highest, 1)


def test_the_sections_say_what_was_measured() -> None:
    assert "10.0 % at keyword 1" in " ".join(retention_section(RETENTION).sentences)
    assert exhaustive_section(EXHAUSTIVE).tables[0].rows == [
        ["exhaustive", "60.0", "92.0", "96.0"],
        ["20 beams", "60.0", "90.0", "92.0"],
    ]
    assert [plot.title for plot in cost_section(cost_rows()).plots] == [
        "Time against beam width", "Time against corpus size"
    ]  # fmt: skip
    [errors, *_] = calibration_section(calibration()).tables
    assert errors.rows[0] == ["all candidates", "5", "0.350", "0.206", "0.600"]
    risk = risk_section(calibration()["coverage_risk"])
    assert risk is not None and risk.tables[0].rows[-1] == ["100 %", "40.0", "0.10"]
    assert no_match_section(no_match(0.6)).sentences[1] == (
        "The threshold is 0.600, the highest that refuses no more than 5 % of the queries of val with an answer."
    )
    assert ["a | b has seen the images in pretraining", "unknown: <b>nobody</b> knows"] in leak_section(LEAKS).tables[
        0
    ].rows


def test_identifiers_are_plotted_as_far_as_they_are_known() -> None:
    assert identifiers_section({"protocol": "inductive"}) is None
    figures = {
        "num_items": 5, "num_identifiers": 4, "shared_percent": 40.0, "largest_group": 2, "num_keywords": 7,
        "bigram_entropy": 1.5, "alone_percent": {"0": 0.0, "1": 60.0},
    }  # fmt: skip
    report = {
        "num_clusters": 2, "num_keywords": 1, str(Direction.T2I): {"test": figures}, "i2t": {},
        "mentions": {"test": {"percent_by_depth": {"1": 50.0}}}, "clusters": [{"num_fitted": 3}, {"num_fitted": 9}],
    }  # fmt: skip
    section = identifiers_section(report)
    assert section is not None
    assert section.tables[0].rows == [["text to image, test", "5", "4", "40.0", "2", "7", "1.5"]]
    assert [plot.title for plot in section.plots] == [
        "Items alone under their first keywords", "Sentences that say each keyword", "Sizes of the clusters"
    ]  # fmt: skip
    assert [bar.height for bar in section.plots[2].bars] == sorted(
        (bar.height for bar in section.plots[2].bars), reverse=True
    )
