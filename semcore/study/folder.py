"""The files of a study's folder: what it was begun with, and what it has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semcore.errors import UserError
from semcore.files import atomic_text, read_json, write_json
from semcore.study.plots import PLOTS, can_draw, draw_beams, draw_grid
from semcore.study.writing import DIRECTIONS, render_study

BEGUN = "study.json"


def begin_study(out: Path, about: Mapping[str, Any]) -> None:
    """Note what all variants of a study have in common, and keep another study out of its folder.

    Args:
        out: the folder.
        about: option -> value.

    Raises:
        UserError: the study was begun with something else.
    """
    path = out / BEGUN
    before = {**about, **read_json(path)} if path.exists() else dict(about)
    for name, value in about.items():
        if before[name] != value:
            raise UserError(f"{out} was begun with --{name} {before[name]}, not {value}; choose another --out")
    write_json(path, before)


def write_study(out: Path, study: Mapping[str, Any], also: Path | None = None) -> None:
    """Write ablations.json and ablations.md, with plots where matplotlib is installed.

    Args:
        out: the folder.
        study: what ablations.json holds.
        also: another file for the same.
    """
    drawn = _draw(out, study["variants"], study["settings"]) if can_draw() else {}
    whole = {**study, "plots": drawn}
    for path in filter(None, (out / "ablations.json", also)):
        write_json(path, whole)
    with atomic_text(out / "ablations.md") as handle:
        handle.write(render_study(whole))


def _draw(out: Path, rows: Sequence[Mapping[str, Any]], full: Mapping[str, Any]) -> dict[str, str]:
    """Draw the plots and return group -> file name; `full` are the full system's settings."""
    beams, grid = {}, {}
    for row in rows:
        if any(score is None for direction in DIRECTIONS for score in row[direction].values()):
            continue  # not measured
        own = {**full, **row["changed"]["identifiers"], **row["changed"]["evaluate"]}
        if "beams" in row["groups"]:
            beams[own["num_beams"]] = row
        if "grid" in row["groups"]:
            grid[own["num_clusters"], own["num_keywords"]] = row
    draw_beams(out / PLOTS["beams"], beams)
    draw_grid(out / PLOTS["grid"], grid)
    return PLOTS
