"""Summary of a study, study.json: one row per variant, and the findings of each table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from semcore.study.commands import Owner, WorkDir, measured_run, own_stages, owners_of, seconds_of
from semcore.study.costs import costs_of
from semcore.study.definition import Study, Variant
from semcore.study.expectations import best_variant, verdict_of
from semcore.study.paper_order import best_of_grid, order_along_axis, order_of_variants
from semcore.study.scores import Found, compare, default_ranking, read_found
from semcore.study.statements import state_axis, state_best, state_grid, state_order, state_verdict
from semcore.study.tables import METRICS, Ranking, Table

STATED = ("R@1", "R@5")


def summarise(study: Study, work: WorkDir) -> dict[str, Any]:
    """Return the content of study.json for a finished study.

    Raises:
        UserError: a run is not evaluated, or two were not evaluated with the same queries.
    """
    found = read_variants(study, work, study.variants)
    rows = [row_of(study, work, variant, found) for variant in study.variants]
    reference = found[study.reference]
    return {
        "title": study.title,
        "note": study.note,
        "reference": study.reference,
        "seeds": list(study.seeds),
        "num_queries": {own: len(reference.ranks[own]) for own in reference.directions},
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "variants": rows,
        "tables": [table_of(study, work, table, found) for table in study.tables],
    }


def read_variants(
    study: Study, work: WorkDir, variants: Sequence[Variant], ranking: Ranking | None = None
) -> dict[str, Found]:
    """Read the ranks of variants over all seeds, by one ranking or by each variant's own."""
    one = work.data is not None
    return {
        variant.name: read_found(_runs(study, work, variant), ranking or variant.ranking, one_dataset=one)
        for variant in variants
    }


def row_of(study: Study, work: WorkDir, variant: Variant, found: Mapping[str, Found]) -> dict[str, Any]:
    """Return a variant's scores, its differences from the reference, and the seconds of its own stages."""
    return {
        "name": variant.name,
        "label": variant.label,
        "ranking": variant.ranking or default_ranking(measured_run(study, work, study.seeds[0], variant)),
        "changed": {stage: dict(own) for stage, own in variant.overrides.items()},
        "paper": dict(variant.paper),
        "paper_protocol": variant.paper_protocol,
        **scores_of(variant.name, study.reference, found),
        "seconds": round(sum(_own_seconds(study, work, seed, variant) for seed in study.seeds), 1),
    }


def scores_of(name: str, reference: str, found: Mapping[str, Found]) -> dict[str, Any]:
    """Return direction -> metric -> a variant's score and its difference from the reference."""
    return {
        direction: {metric: compare(found[name], found[reference], direction, metric) for metric in METRICS}
        for direction in found[reference].directions
    }


def table_of(study: Study, work: WorkDir, table: Table, found: Mapping[str, Found]) -> dict[str, Any]:
    """Return a table's rows and findings, with the scores of its own ranking and the costs where it asks for them."""
    own: dict[str, Any] = {name: getattr(table, name) for name in ("title", "axis", "lines", "ranking", "paper")}
    own["variants"] = list(table.variants)
    variants = [study.variant(name) for name in table.variants]
    if table.ranking is not None:
        found = read_variants(study, work, [study.variant(study.reference), *variants], table.ranking)
        own["scores"] = {name: scores_of(name, study.reference, found) for name in table.variants}
    if table.costs:
        own["costs"] = {variant.name: costs_of(_runs(study, work, variant)) for variant in variants}
    return {**own, **findings_of(study, table, found)}


def findings_of(study: Study, table: Table, found: Mapping[str, Found]) -> dict[str, Any]:
    """Return the values on a table's axes, its orders, and sentences on them."""
    numbers = {
        axis: {name: study.value_on_axis(study.variant(name), axis) for name in table.variants}
        for axis in filter(None, (table.axis, table.lines))
    }
    orders = [
        order
        for direction in found[study.reference].directions
        for metric in STATED
        for order in _orders(study, table, found, numbers, direction, metric)
    ]
    orders += _verdicts(table, found, found[study.reference].directions)
    labels = {variant.name: variant.label for variant in study.variants}
    states: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
        "order": partial(state_order, labels=labels),
        "axis": state_axis,
        "grid": state_grid,
        "verdict": partial(state_verdict, labels=labels),
        "best": partial(state_best, labels=labels),
    }
    return {"numbers": numbers, "orders": orders, "statements": [states[order["kind"]](order) for order in orders]}


def _verdicts(table: Table, found: Mapping[str, Found], directions: Sequence[str]) -> list[dict[str, Any]]:
    verdicts = [
        {"kind": "verdict", **verdict_of(expectation, found, direction)}
        for expectation in table.expected
        for direction in directions
    ]
    if table.against is None:
        return verdicts
    rows = {name: found[name] for name in table.variants}
    return verdicts + [
        {"kind": "best", **best_variant(rows, table.against, direction, metric)}
        for direction in directions
        for metric in STATED
    ]


def _orders(
    study: Study,
    table: Table,
    found: Mapping[str, Found],
    numbers: Mapping[str, Mapping[str, float]],
    direction: str,
    metric: str,
) -> list[dict[str, Any]]:
    orders: list[dict[str, Any]] = []
    paper = {name: study.variant(name).paper[metric] for name in table.variants if metric in study.variant(name).paper}
    if table.paper and len(paper) > 1:
        orders.append({"kind": "order", **order_of_variants(paper, found, direction, metric)})
    if table.axis is None:
        return orders
    x = numbers[table.axis]
    if table.lines is None:
        along = {x[name]: found[name] for name in table.variants}
        return [*orders, {"kind": "axis", "axis": table.axis, **order_along_axis(along, direction, metric)}]
    y = numbers[table.lines]
    grid = {(x[name], y[name]): found[name] for name in table.variants}
    point = (x[study.reference], y[study.reference]) if study.reference in x else None
    axes = {"axis": table.axis, "lines": table.lines}
    return [*orders, {"kind": "grid", **axes, **best_of_grid(grid, point, direction, metric)}]


def _runs(study: Study, work: WorkDir, variant: Variant) -> list[Path]:
    return [measured_run(study, work, seed, variant) for seed in study.seeds]


def _own_seconds(study: Study, work: WorkDir, seed: int, variant: Variant) -> float:
    here = Owner(seed, variant.name)
    own = own_stages(owners_of(study, work)[here], here)
    return seconds_of(work.run(here), own) if own else 0.0
