"""Markdown report of identifiers: the figures of report.json as report.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semcore.data.directions import Direction
from semcore.data.identifier_files import IdentifierRow, cluster_token
from semcore.identifiers.mention_rates import CANDIDATES_PER_KEYWORD
from semcore.runtime.markdown_tables import markdown_table

_COLUMNS = (
    "items", "identifiers", "share one", "largest group", "no keyword", "distinct keywords",
    "cluster smallest / median / largest", "empty clusters", "bigram entropy, nats",
)  # fmt: skip
_CRITERIA = {"similarity": "similar", "mention_rate": "mentioned"}
_NUM_EXAMPLES = 5
_NUM_LISTED = 20


def render_report(report: Mapping[str, Any], rows: Mapping[Direction, Sequence[IdentifierRow]]) -> str:
    """Return the report as markdown.

    Args:
        report: the content of report.json.
        rows: direction -> its identifiers, of which a few are shown as examples.
    """
    blocks = ["# Identifiers", _introduction(report), _captions(report["captions"])]
    for direction in Direction:
        if report[direction]:
            title = f"{direction.words.capitalize()}: the items are {direction.item_kind}"
            blocks += [f"## {title}", _figures(report[direction]), _alone(report[direction])]
            blocks += [_mentions(report["mentions"])] if direction.items_are_images else []
            blocks += [_without_keyword(report["without_keyword"][direction]), _examples(rows[direction])]
    blocks += ["## Clusters", _clusters(report["clusters"])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _introduction(report: Mapping[str, Any]) -> str:
    which = "the training split's captions" if report["protocol"] == "inductive" else "the captions of **all** splits"
    text = (
        f"{report['num_clusters']} clusters fitted on {which} ({report['num_fitted']}), protocol "
        f"**{report['protocol']}**; every other item has the cluster of the nearest centroid. "
        f"Up to {report['num_keywords']} keywords an item{_selection(report)}, "
        f"the most {_CRITERIA[report['keyword_order']]} first; sentence encoder {report['encoder']}, "
        f"seed {report['seed']}."
    )
    if report["scheme"] == "numeric":
        text += " A **unique number** stands in place of an item's keywords."
    return text if report["global_id"] else f"{text} The clusters are **left out** of the identifiers."


def _selection(report: Mapping[str, Any]) -> str:
    """Name the method of choosing keywords, where it is not similarity alone."""
    if report["keyword_choice"] == "mention_rate":
        return f", the most mentioned of the {CANDIDATES_PER_KEYWORD * report['num_keywords']} most similar"
    if report["diversity"] is not None:
        return f", by KeyBERT's maximal marginal relevance with diversity {report['diversity']:g}"
    if report["nr_candidates"] is not None:
        return f", by KeyBERT's max-sum distance among {report['nr_candidates']}"
    return ""


def _captions(captions: Mapping[str, Any]) -> str:
    text = f"{captions['num_captioned']} of {captions['num_images']} images have a caption."
    if captions["missing"]:
        text += f" Without one, and so without an identifier: {_listed(captions['missing'])}."
    if captions["num_unknown"]:
        text += f" {captions['num_unknown']} captions belong to no image of the dataset and were left out."
    return text


def _figures(figures: Mapping[str, Mapping[str, Any]]) -> str:
    return markdown_table(("split", *_COLUMNS), [(split, *_cells(values)) for split, values in figures.items()])


def _cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    size = figures["cluster_size"]
    return (
        str(figures["num_items"]),
        str(figures["num_identifiers"]),
        f"{figures['num_shared_items']} ({figures['shared_percent']} %)",
        str(figures["largest_group"]),
        str(figures["num_without_keyword"]),
        str(figures["num_keywords"]),
        f"{size['smallest']} / {size['median']:g} / {size['largest']}",
        str(size["num_empty"]),
        f"{figures['bigram_entropy']:g}",
    )


def _alone(figures: Mapping[str, Mapping[str, Any]]) -> str:
    depths = max((list(values["alone_percent"]) for values in figures.values()), key=len)
    header = ("alone under its cluster and ... (%)", *(f"{depth} keyword{'s' * (depth != '1')}" for depth in depths))
    return markdown_table(
        header,
        [
            (split, *(str(values["alone_percent"].get(depth, "")) for depth in depths))
            for split, values in figures.items()
        ],
    )


def _mentions(mentions: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how many sentences say their image's first keyword, its second, ..."""
    if not mentions:
        return ""
    depths = max((list(figures["percent_by_depth"]) for figures in mentions.values()), key=len)
    header = ("sentences that say keyword ... (%)", *depths, "keywords a sentence says", "sentences")
    return markdown_table(
        header,
        [
            (
                split,
                *(str(figures["percent_by_depth"].get(depth, "")) for depth in depths),
                str(figures["words_per_sentence"]),
                str(figures["num_sentences"]),
            )
            for split, figures in mentions.items()
        ],
    )


def _without_keyword(item_ids: Sequence[str]) -> str:
    return f"No keyword left, so nothing behind the cluster: {_listed(item_ids)}." if item_ids else ""


def _examples(rows: Sequence[IdentifierRow]) -> str:
    step = max(1, len(rows) // _NUM_EXAMPLES)
    return markdown_table(
        ("item", "split", "identifier"),
        [(f"`{row['item_id']}`", row["split"], f"`{row['identifier']}`") for row in rows[::step][:_NUM_EXAMPLES]],
    )


def _clusters(clusters: Sequence[Mapping[str, Any]]) -> str:
    return markdown_table(
        ("cluster", "fitted captions", "words"),
        [
            (f"`{cluster_token(index)}`", str(cluster["num_fitted"]), ", ".join(cluster["words"]))
            for index, cluster in enumerate(clusters)
        ],
    )


def _listed(item_ids: Sequence[str]) -> str:
    more = f" and {len(item_ids) - _NUM_LISTED} more" if len(item_ids) > _NUM_LISTED else ""
    return f"{len(item_ids)} ({', '.join(item_ids[:_NUM_LISTED])}{more})"
