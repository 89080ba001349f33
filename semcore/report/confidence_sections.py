"""Sections on confidence: calibration, coverage against risk, and queries without an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semcore.report.plots import PERCENT, SHARE, line_plot
from semcore.report.sections import Section, Table, percent, plural

_CASES = {"candidates": "all candidates", "best_hits": "best hits"}


def calibration_section(figures: Mapping[str, Any]) -> Section:
    """Return the reliability diagram with its errors.

    Args:
        figures: "calibration" of metrics.json for one direction.
    """
    known = {name: figures[name] for name in _CASES if figures.get(name, {}).get("num_cases")}
    if not known:
        return Section("Calibration", ["No query has a hit with a confidence, so that there is nothing to compare."])
    errors = [
        [_CASES[name], f"{own['num_cases']:,}", f"{own['ece']:.3f}", f"{own['brier']:.3f}", f"{own['base_rate']:.3f}"]
        for name, own in known.items()
    ]
    tables = [Table(("", "cases", "ECE", "Brier score", "share right"), errors)]
    tables += [_bins(_CASES[name], own["bins"]) for name, own in known.items()]
    lines = {_CASES[name]: [(own["confidence"], own["right"]) for own in each["bins"]] for name, each in known.items()}
    diagram = line_plot(
        "Reliability diagram", lines, x=SHARE, y=SHARE, x_label="confidence", y_label="share right", diagonal=True
    )
    sentences = [
        "Confidence is the probability that a candidate answers the query, fitted on val. ECE is the expected "
        "calibration error over ten bins of equal width, the Brier score the mean squared error; both are 0 at best. "
        "On the dashed line confidence holds exactly."
    ]
    return Section("Calibration", sentences, tables, [diagram])


def risk_section(figures: Mapping[str, Any]) -> Section | None:
    """Return the curve of risk against coverage; None where there is none.

    Args:
        figures: "coverage_risk" of one direction.
    """
    points = figures.get("points", [])
    if not points:
        return None
    shown = [point for point in points if point["coverage"] % 20 == 0]
    rows = [[f"{p['coverage']} %", percent(p["risk"]), f"{p['confidence']:.2f}"] for p in shown]
    plot = line_plot(
        "Risk–coverage curve",
        {"best hits": [(point["coverage"], point["risk"]) for point in points]},
        x=PERCENT,
        y=PERCENT,
        x_label="coverage, %",
        y_label="risk, %",
    )
    sentence = (
        "Where only the most confident queries are answered, coverage is their share and risk the share of these "
        f"answers that is wrong; the area under the curve is {percent(figures['aurc'])} %."
    )
    return Section("Risk and coverage", [sentence], [Table(("coverage", "risk, %", "least confidence"), rows)], [plot])


def no_match_section(figures: Mapping[str, Any]) -> Section:
    """Return how well queries without an answer are told, and which quantity would tell them how well.

    Args:
        figures: "no_match" of metrics.json for one direction.
    """
    threshold, splits = figures["threshold"], figures["splits"]
    wanted = f"{figures['wanted_refused']:g} %"
    sentences = [
        "A search says no match where the scores of its candidates together, the logarithm of the sum of their "
        "exponentials, come to less than a threshold. It is tested with queries whose items were taken out of the "
        "corpus, a quarter of the images at random."
    ]
    if threshold is None:
        sentences.append(
            f"On val no threshold that refuses {wanted} of the queries with an answer refuses more of those without, "
            "or there are fewer than ten with one, so that no search says no match."
        )
    else:
        sentences.append(
            f"The threshold is {threshold:.3f}, the highest that refuses no more than {wanted} of the queries of val "
            "with an answer."
        )
    rows = [
        [
            split,
            f"{own['num_with_answer']:,}",
            f"{own['num_without_answer']:,}",
            percent(own["refused"]),
            percent(own["caught"]),
            percent(own["precision"]),
        ]
        for split, own in splits.items()
    ]
    header = ("split", "with an answer", "without", "refused, %", "caught, %", "precision, %")
    note = (
        "Refused: of the queries with an answer, wrongly; caught: of those without. Precision: of the answers that are "
        "right, if half of all queries had no answer. AUROC: the probability that a query with an answer has more than "
        "one without; what decides is log_sum_exp, the others are measured beside it: score, confidence, generator and "
        "verifier of the best hit."
    )
    smallest = min((own["num_without_answer"] for own in splits.values()), default=0)
    if smallest < 30:
        note += f" With {plural(smallest, 'query')} without an answer the figures are rough."
    return Section("No-match detection", [*sentences, note], [Table(header, rows), _areas(splits)])


def _areas(splits: Mapping[str, Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for own in splits.values() for name in own["auroc"]))
    rows = [[split, *(_three_digits(own["auroc"].get(name)) for name in names)] for split, own in splits.items()]
    return Table(("AUROC", *names), rows)


def _three_digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _bins(name: str, bins: list[Mapping[str, Any]]) -> Table:
    rows = [
        [
            f"{own['low']:.1f} to {own['high']:.1f}",
            f"{own['num_cases']:,}",
            f"{own['confidence']:.3f}",
            f"{own['right']:.3f}",
        ]
        for own in bins
    ]
    return Table((f"confidence, {name}", "cases", "mean confidence", "share right"), rows)
