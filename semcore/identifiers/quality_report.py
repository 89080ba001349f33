"""Markdown report of identifiers: the figures of report.json as report.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semcore.data.directions import Direction
from semcore.data.identifier_files import IdentifierRow, cluster_token
from semcore.identifiers.oracle import ORACLE_SPLIT, sentence_of
from semcore.runtime.markdown_tables import markdown_table

_COLUMNS = (
    "items", "identifiers", "share one", "largest group", "no {unit}", "distinct {unit}s",
    "cluster smallest / median / largest", "empty clusters", "bigram entropy, nats",
)  # fmt: skip
_NUM_EXAMPLES = 5
_NUM_LISTED = 20


def render_report(
    report: Mapping[str, Any], rows: Mapping[Direction, Sequence[IdentifierRow]], introduction: str
) -> str:
    """Return the report as markdown.

    Args:
        report: the content of report.json.
        rows: direction -> its identifiers, of which a few are shown as examples.
        introduction: what the identifiers are, in the words of their scheme.
    """
    blocks = ["# Identifiers", introduction, _captions(report["captions"])]
    for direction in Direction:
        if report[direction]:
            title = f"{direction.words.capitalize()}: the items are {direction.item_kind}"
            unit = "code" if report.get("codes") else "keyword"
            blocks += [f"## {title}", _figures(report[direction], unit), _alone(report[direction], unit)]
            blocks += [_mentions(report.get("mentions", {}))] if direction.items_are_images else []
            blocks += [_without_keyword(report["without_keyword"][direction]), _examples(rows[direction])]
    blocks += ["## Clusters", _clusters(report["clusters"])] if "clusters" in report else []
    blocks += ["## Codes", *_codes(report["codes"])] if report.get("codes") else []
    blocks += _oracle(report.get("oracle", {}))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _captions(captions: Mapping[str, Any]) -> str:
    text = f"{captions['num_captioned']} of {captions['num_images']} images have a caption."
    if captions["missing"]:
        text += f" Without one, and so without an identifier: {_listed(captions['missing'])}."
    if captions["num_unknown"]:
        text += f" {captions['num_unknown']} captions belong to no image of the dataset and were left out."
    return text


def _figures(figures: Mapping[str, Mapping[str, Any]], unit: str) -> str:
    columns = (column.format(unit=unit) for column in _COLUMNS)
    return markdown_table(("split", *columns), [(split, *_cells(values)) for split, values in figures.items()])


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


def _alone(figures: Mapping[str, Mapping[str, Any]], unit: str) -> str:
    depths = max((list(values["alone_percent"]) for values in figures.values()), key=len)
    header = ("alone under its cluster and ... (%)", *(f"{depth} {unit}{'s' * (depth != '1')}" for depth in depths))
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


def _codes(codes: Mapping[str, Any]) -> list[str]:
    """Return how the codes are used, and how many items share theirs."""
    blocks = []
    if levels := codes.get("levels"):
        rows = [
            (str(level), str(own["used"]), str(own["percent"]), str(own["perplexity"]))
            for level, own in enumerate(levels, start=1)
        ]
        blocks.append(markdown_table(("level", "codes used", "%", "perplexity"), rows))
    if "depth" in codes:
        blocks.append(f"A tree of {codes['num_nodes']} nodes and {codes['num_leaves']} leaves, {codes['depth']} deep.")
    left = ", ".join(f"{split} {100 * share:.1f} %" for split, share in codes.get("variance_left", {}).items())
    blocks.append(
        f"{codes['tokens_per_identifier']:g} tokens an identifier."
        + (f" What the codes do not tell of the images' vectors (variance): {left}." if left else "")
    )
    for name, own in codes["collisions"].items():
        blocks.append(
            f"{Direction(name).item_kind.capitalize()}: {own['num_items']} items have {own['num_codes']} different "
            f"codes (at most {own['largest_group_of_codes']} the same) and, after the rule {own['rule']}, "
            f"{own['num_identifiers']} identifiers (at most {own['largest_group']})."
        )
    return blocks


def _oracle(oracle: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what a perfect reader of these identifiers would find, before any training."""
    if not oracle:
        return []
    cutoffs = ("R@1", "R@5", "R@10")
    rows = []
    for name, own in oracle.items():
        items = f"{own['num_queries']} queries, {own['num_items']} items"
        rows.append((Direction(name).label, *(f"{own[cutoff]} ({own['chance'][cutoff]})" for cutoff in cutoffs), items))
    warning = sentence_of(oracle)
    return [
        "## What a perfect reader would find",
        f"Without any training, on {ORACLE_SPLIT}: items by what a query has in common with their identifiers; in "
        "brackets, what chance gives.",
        markdown_table(("direction", *cutoffs, ""), rows),
        *([f"**{warning[0].upper()}{warning[1:]}.**"] if warning else []),
    ]


def _listed(item_ids: Sequence[str]) -> str:
    more = f" and {len(item_ids) - _NUM_LISTED} more" if len(item_ids) > _NUM_LISTED else ""
    return f"{len(item_ids)} ({', '.join(item_ids[:_NUM_LISTED])}{more})"
