"""Sections on the whole run: data leakage, and the identifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semcore.data.directions import Direction
from semcore.report.plots import PERCENT, Axis, Plot, bar_plot, line_plot, round_axis
from semcore.report.sections import Section, Table, percent, plural

_PROTOCOLS = {
    "inductive": "inductive: the clusters are fitted on the training split alone",
    "transductive": "transductive: the clusters are fitted on the searched items too",
}


def leak_section(check: Mapping[str, Any]) -> Section:
    """Return what the models may have seen of the measured split.

    Args:
        check: "leak_check" of metrics.json.
    """
    rows = [
        ["protocol", _PROTOCOLS.get(check["protocol"], check["protocol"])],
        ["images that are training images too", _part(check["num_shared_images"], check["num_images"])],
        ["sentences that training images have too", _part(check["num_shared_sentences"], check["num_sentences"])],
        *(
            [f"{own['model']} has seen the images in pretraining", f"{own['answer']}: {own['reason']}"]
            for own in check["backbones"]
        ),
    ]
    sentences = [] if check["backbones"] else ["The run does not say what its models were made from."]
    return Section("Data leakage", sentences, [Table(("", "found"), rows)])


def identifiers_section(report: Mapping[str, Any]) -> Section | None:
    """Return the quality of the identifiers; None where their report has no figures.

    Args:
        report: the content of identifiers/report.json.
    """
    known = [direction for direction in Direction if report.get(direction)]
    if not known:
        return None
    rows = [
        [
            f"{direction.words}, {split}",
            f"{figures['num_items']:,}",
            f"{figures['num_identifiers']:,}",
            percent(figures["shared_percent"]),
            str(figures["largest_group"]),
            f"{figures['num_keywords']:,}",
            f"{figures['bigram_entropy']:g}",
        ]
        for direction in known
        for split, figures in report[direction].items()
    ]
    unit = "codes" if report.get("codes") else "keywords"
    header = ("", "items", "identifiers", "share one, %", "largest group", f"distinct {unit}", "bigram entropy, nats")
    tables = [Table(header, rows), *_oracle(report.get("oracle", {}))]
    return Section("Identifiers", [_identifiers_sentence(report)], tables, _plots(report, known))


def _identifiers_sentence(report: Mapping[str, Any]) -> str:
    more = "identifiers/report.md says more."
    if "num_clusters" in report or "scheme" not in report:
        clusters, keywords = report.get("num_clusters", 0), report.get("num_keywords", 0)
        return f"{plural(clusters, 'cluster')}, up to {plural(keywords, 'keyword')} an item; {more}"
    return f"Scheme {report['scheme']}; {more}"


def _oracle(oracle: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Return what a perfect reader of the identifiers finds, without any training."""
    cutoffs = ("R@1", "R@5", "R@10")
    rows = [
        [f"{Direction(name).words}, val", *(f"{own[cutoff]} (chance {own['chance'][cutoff]})" for cutoff in cutoffs)]
        for name, own in oracle.items()
    ]
    return [Table(("a perfect reader of them, untrained, finds", *cutoffs), rows)] if rows else []


def _plots(report: Mapping[str, Any], directions: list[Direction]) -> list[Plot]:
    plots = []
    alone = {
        direction.words: [(float(depth), value) for depth, value in figures.items()]
        for direction in directions
        if (figures := report[direction].get("test", report[direction].get("all", {})).get("alone_percent"))
    }
    if alone:
        depths = sorted({depth for points in alone.values() for depth, _ in points})
        plots.append(
            line_plot(
                "Items alone under their first keywords", alone, y=PERCENT, x_label="keywords", y_label="items, %",
                x=Axis(0, max(1.0, *depths), {depth: f"{depth:g}" for depth in depths}),
            )
        )  # fmt: skip
    mentions = report.get("mentions", {})
    said = mentions.get("test", mentions.get("train", {})).get("percent_by_depth", {})
    if said:
        plots.append(
            bar_plot("Sentences that say each keyword", said, y=PERCENT, x_label="keyword", y_label="sentences, %")
        )
    sizes = sorted((cluster["num_fitted"] for cluster in report.get("clusters", [])), reverse=True)
    if sizes:
        bars = {str(number): float(size) for number, size in enumerate(sizes, start=1)}
        title = "Sizes of the clusters"
        plots.append(
            bar_plot(title, bars, y=round_axis(sizes[0]), x_label="cluster, the largest first", y_label="captions")
        )
    return plots


def _part(number: int, whole: int) -> str:
    return f"{number:,} of {whole:,}"
