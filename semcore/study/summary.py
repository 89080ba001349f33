"""Summary of a study, study.json: one row per variant, and the findings of each table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semcore.study.commands import Owner, WorkDir, measured_run, own_stages, owners_of, seconds_of
from semcore.study.definition import METRICS, Study, Table, Variant
from semcore.study.markdown import state_axis, state_grid, state_order
from semcore.study.paper_order import best_of_grid, order_along_axis, order_of_variants
from semcore.study.scores import Found, compare, default_ranking, read_found

STATED = ("R@1", "R@5")


def summarise(study: Study, work: WorkDir) -> dict[str, Any]:
    """Return the content of study.json for a finished study.

    Raises:
        UserError: a run is not evaluated, or two were not evaluated with the same queries.
    """
    found = {variant.name: read_variant(study, work, variant) for variant in study.variants}
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
        "tables": [table_of(study, table, found) for table in study.tables],
    }


def read_variant(study: Study, work: WorkDir, variant: Variant) -> Found:
    """Read a variant's ranks over all seeds."""
    runs = [measured_run(study, work, seed, variant) for seed in study.seeds]
    return read_found(runs, variant.ranking, one_dataset=work.data is not None)


def row_of(study: Study, work: WorkDir, variant: Variant, found: Mapping[str, Found]) -> dict[str, Any]:
    """Return a variant's scores, its differences from the reference, and the seconds of its own stages."""
    return {
        "name": variant.name,
        "label": variant.label,
        "ranking": variant.ranking or default_ranking(measured_run(study, work, study.seeds[0], variant)),
        "changed": {stage: dict(own) for stage, own in variant.overrides.items()},
        "paper": dict(variant.paper),
        **{
            direction: {
                metric: compare(found[variant.name], found[study.reference], direction, metric) for metric in METRICS
            }
            for direction in found[study.reference].directions
        },
        "seconds": round(sum(_own_seconds(study, work, seed, variant) for seed in study.seeds), 1),
    }


def table_of(study: Study, table: Table, found: Mapping[str, Found]) -> dict[str, Any]:
    """Return a table's rows, the values on its axes, and its findings."""
    own = {"title": table.title, "variants": list(table.variants), "axis": table.axis, "lines": table.lines}
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
    labels = {variant.name: variant.label for variant in study.variants}
    states = {"order": lambda order: state_order(order, labels), "axis": state_axis, "grid": state_grid}
    return {
        **own,
        "numbers": numbers,
        "orders": orders,
        "statements": [states[order["kind"]](order) for order in orders],
    }


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
    if len(paper) > 1:
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


def _own_seconds(study: Study, work: WorkDir, seed: int, variant: Variant) -> float:
    here = Owner(seed, variant.name)
    own = own_stages(owners_of(study, work)[here], here)
    return seconds_of(work.run(here), own) if own else 0.0
