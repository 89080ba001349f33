"""Content of both reports, assembled once; the templates only lay it out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from semcore import __version__
from semcore.data.directions import Direction
from semcore.report.analyses import direction_sections, version_note
from semcore.report.chart import Group, score_chart
from semcore.report.examples import Example, Item, Shown, choose_examples, read_shown, show_example
from semcore.report.false_negatives import Audit, audited_rows, show_audit
from semcore.report.rendering import memory
from semcore.report.run_contents import RunContents
from semcore.report.run_sections import identifiers_section, leak_section
from semcore.report.sections import Section
from semcore.report.tables import (
    OrderRow,
    ScoreRow,
    StageRow,
    findings,
    flat,
    order_note,
    order_rows,
    score_rows,
    split_note,
    stage_rows,
    unanswerable_note,
    verifier_note,
    verifier_rows,
)

_PROTOCOLS = {
    "inductive": "inductive: nothing was learnt from the items that are searched",
    "transductive": "transductive: identifiers or generator have learnt from the searched items too",
}


class DirectionView(NamedTuple):
    """One direction: its scores, notes on them, and examples."""

    key: str
    title: str
    num_queries: int
    num_items: int
    table: list[ScoreRow]
    chart: list[Group]
    unanswerable: str
    findings: list[str]
    verifiers: list[ScoreRow]
    verifier_note: str
    order_bias: list[OrderRow]
    order_note: str
    sections: list[Section]
    audit: Audit | None
    examples: list[Example]


class ReportView(NamedTuple):
    """A whole report; `missing_dataset` is the reason why there are no images, empty where there are."""

    title: str
    version: str
    split: str
    facts: dict[str, str]
    directions: list[DirectionView]
    sections: list[Section]
    stages: list[StageRow]
    details: dict[str, dict[str, str]]
    missing_dataset: str


def build_view(run: RunContents, *, num_per_outcome: int = 2, seed: int = 0) -> ReportView:
    """Prepare the tables, intervals, charts and examples of a run.

    Args:
        run: The content of the run folder.
        num_per_outcome: Examples per direction for each outcome of a query.
        seed: Seed of the intervals, the test and the choice of examples.
    """
    return ReportView(
        title=run.folder.resolve().name,
        version=__version__,
        split=str(run.metrics.get("split", "")),
        facts=_facts(run),
        directions=[_direction(run, direction, num_per_outcome, seed) for direction in run.per_query],
        sections=_sections(run),
        stages=stage_rows(run.manifest),
        details=_details(run),
        missing_dataset=run.missing_dataset,
    )


def shown_items(view: ReportView) -> Iterator[Item]:
    """Yield every item that an example of the report shows, in reading order, some of them repeatedly."""
    for direction in view.directions:
        for example in direction.examples:
            yield from (example.query, *(hit.item for hit in example.hits), *example.missed)
        if direction.audit is not None:
            for entry in direction.audit.entries:
                yield from (entry.query, entry.item, *entry.right)


def _direction(run: RunContents, direction: Direction, num_per_outcome: int, seed: int) -> DirectionView:
    rows = run.per_query[direction]
    table = score_rows(run.metrics, direction, rows, seed)
    chosen = choose_examples(rows, num_per_outcome=num_per_outcome, seed=seed)
    audited = audited_rows(run.false_negatives.get(direction, []))
    shown = Shown({}, {})
    if run.dataset:
        shown = read_shown(run.dataset, direction, [*(row for _, row in chosen), *audited])
    return DirectionView(
        key=direction,
        title=direction.label.capitalize(),
        num_queries=int(table[0].scores["num_queries"]),
        num_items=int(table[0].scores["num_items"]),
        table=table,
        chart=score_chart(table),
        unanswerable=unanswerable_note(run.metrics, direction),
        findings=findings(run.metrics, direction, rows, seed),
        verifiers=verifier_rows(run.metrics, direction),
        verifier_note=verifier_note(run.metrics),
        order_bias=order_rows(run.metrics, direction),
        order_note=order_note(run.metrics, direction),
        sections=direction_sections(run.metrics, direction),
        audit=show_audit(run.metrics, direction, audited, shown),
        examples=[show_example(outcome, row, direction, shown) for outcome, row in chosen],
    )


def _sections(run: RunContents) -> list[Section]:
    """Return the sections on the whole run, as far as they are known."""
    leaks = run.metrics.get("leak_check")
    return [
        *([leak_section(leaks)] if leaks else []),
        *([section] if (section := identifiers_section(run.identifiers)) else []),
    ]


def _facts(run: RunContents) -> dict[str, str]:
    """Return the facts of the evaluation for the top of the report."""
    protocol = str(run.metrics.get("protocol", ""))
    data = run.manifest.get("data")
    beams = str(run.metrics.get("num_beams", ""))
    if not run.metrics.get("constraint", True):
        beams += ", without the prefix tree"
    facts = {
        "dataset": run.dataset.name if run.dataset else Path(data).name if data else "",
        "split": split_note(run.metrics),
        "protocol": _PROTOCOLS.get(protocol, protocol),
        "beams": beams,
        "verifier": _verifier(run.metrics),
        "lineage": _allowed(run),
        "version": version_note(run.manifest),
    }
    return {name: value for name, value in facts.items() if value}


def _allowed(run: RunContents) -> str:
    """Return a sentence on allowed mismatches of the stages, which may have changed the scores."""
    stages = run.manifest.get("stages", {}).items()
    found = [(name, mismatch) for name, stage in stages for mismatch in stage.get("allowed_mismatches", [])]
    return "; ".join(
        f"{stage} went on although {row['subject']} was not what {Path(row['model']).name} was made with "
        f"({row['made_with'][:12] or 'not recorded'} then, {row['found'][:12] or 'gone'} now)"
        for stage, row in found
    )


def _verifier(metrics: Mapping[str, Any]) -> str:
    """Name the verifier of the final ranking, and how its ranking is computed."""
    name = str(metrics.get("verifier", ""))
    if name in ("", "none"):
        return name
    if metrics.get("fusion") == "none":
        return f"{name}, alone"
    return f"{name}, fused with the generator's score" + (
        " by weights fitted on val" if metrics.get("fitted_on") else ""
    )


def _details(run: RunContents) -> dict[str, dict[str, str]]:
    manifest = run.manifest
    tables = {
        "Seconds of the evaluation": flat(run.metrics.get("seconds", {})),
        "Machine": _machine(manifest.get("hardware", {})),
        "Versions": flat(
            {"semcore": manifest.get("semcore"), "git": manifest.get("git"), **manifest.get("versions", {})}
        ),
        "Prompts (sha256)": {name: digest[:12] for name, digest in manifest.get("prompts", {}).items()},
    }
    return {title: table for title, table in tables.items() if table}


def _machine(hardware: Mapping[str, Any]) -> dict[str, str]:
    """Format the hardware: bytes in GiB, lists in one line."""
    named = {
        key.removesuffix("_bytes").removeprefix("num_"): memory(value) if key.endswith("_bytes") else value
        for key, value in hardware.items()
    }
    return flat({key: ", ".join(value) if isinstance(value, list) else value for key, value in named.items()})
