"""From the runs of a study to ablations.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from semcore.errors import UserError
from semcore.study.commands import Place, seconds_of
from semcore.study.order import order_of_beams, order_of_grid, order_of_parts
from semcore.study.outcomes import METRICS, Found, compare, read_found, read_found_unverified
from semcore.study.variants import FULL, STAGES, WITHOUT_VERIFICATION, Variant
from semcore.study.writing import DIRECTIONS, state_beams, state_grid, state_parts

STATED = ("R@1", "R@5")


def findings_of(
    place: Place, seeds: Sequence[int], variants: Sequence[Variant], num_beams: int, full: tuple[int, int]
) -> dict[str, Any]:
    """Return what ablations.json says of the variants.

    Args:
        place: holds their runs.
        seeds: which were run.
        variants: which were run; the full system is one of them.
        num_beams: the full system's.
        full: the full system's clusters and keywords.

    Raises:
        UserError: a run is not measured, two were not asked the same, or the full system was not verified.
    """
    found = read_all(place, seeds, variants)
    if FULL not in found:
        raise UserError(
            f"the full system in {place.run(seeds[0], FULL)} was evaluated without a verifier, so there is nothing to "
            "compare with; choose another --out, and leave --verifier none out"
        )
    rows = rows_of(place, seeds, variants, found)
    orders = orders_of([variant for variant in variants if variant.name in found], found, num_beams, full)
    return {
        "seconds": round(len(seeds) * sum(row["seconds"] for row in rows), 1),
        "variants": rows,
        "orders": orders,
        "statements": statements_of(orders, {variant.name: variant.label for variant in variants}),
    }


def read_all(place: Place, seeds: Sequence[int], variants: Sequence[Variant]) -> dict[str, Found]:
    """Return variant -> what it found; one that was evaluated without a verifier is not measured, and left out."""
    found = {}
    for variant in variants:
        if variant.name == WITHOUT_VERIFICATION:
            own: Found | None = read_found_unverified([place.run(seed, FULL) for seed in seeds])
        else:
            own = read_found([place.run(seed, variant.name) for seed in seeds])
        if own is not None:
            found[variant.name] = own
    return found


def rows_of(
    place: Place, seeds: Sequence[int], variants: Sequence[Variant], found: Mapping[str, Found]
) -> list[dict[str, Any]]:
    """Return a row a variant: its scores and differences from the full system, and what its own stages took.

    The scores of a variant that is not measured are None.
    """
    return [
        {
            "name": variant.name,
            "label": variant.label,
            "groups": list(variant.groups),
            "changed": {"identifiers": dict(variant.identifiers), "evaluate": dict(variant.evaluate)},
            "paper": variant.paper,
            **{
                direction: {
                    m: compare(found[variant.name], found[FULL], direction, m) if variant.name in found else None
                    for m in METRICS
                }
                for direction in DIRECTIONS
            },
            "seconds": round(fmean(_own_seconds(place, seed, variant) for seed in seeds), 1),
        }
        for variant in variants
    ]


def orders_of(
    variants: Sequence[Variant], found: Mapping[str, Found], num_beams: int, full: tuple[int, int]
) -> dict[str, list[dict[str, Any]]]:
    """Compare with the paper: the order of the parts, of the beams, and the best of the grid.

    Args:
        variants: what was measured.
        found: variant -> what it found.
        num_beams: the full system's.
        full: the full system's clusters and keywords.
    """
    parts = {variant.name: variant.paper for variant in variants if "parts" in variant.groups and variant.paper}
    beams = {num_beams: found[FULL]} | {
        variant.evaluate["num_beams"]: found[variant.name] for variant in variants if variant.groups == ("beams",)
    }
    grid = {full: found[FULL]} | {point_of(v): found[v.name] for v in variants if v.groups == ("grid",)}
    asked = [(direction, metric) for direction in DIRECTIONS for metric in STATED]
    return {
        "parts": [
            order_of_parts({name: scores[STATED.index(m)] for name, scores in parts.items()}, found, d, m)
            for d, m in asked
        ],
        "beams": [order_of_beams(beams, d, m) for d, m in asked],
        "grid": [order_of_grid(grid, full, d, m) for d, m in asked],
    }


def statements_of(orders: Mapping[str, Sequence[Mapping[str, Any]]], labels: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the same in sentences."""
    return {
        "parts": [state_parts(order, labels) for order in orders["parts"]],
        "beams": [state_beams(order) for order in orders["beams"]],
        "grid": [state_grid(order) for order in orders["grid"]],
    }


def point_of(variant: Variant) -> tuple[int, int]:
    """Return clusters and keywords of a point of the grid."""
    return variant.identifiers["num_clusters"], variant.identifiers["num_keywords"]


def _own_seconds(place: Place, seed: int, variant: Variant) -> float:
    if not variant.has_run:
        return 0.0
    own = [stage for stage in STAGES if stage not in variant.shared]
    return seconds_of(place.run(seed, variant.name), own)
