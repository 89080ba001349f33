"""Files of a study's folder: its definition and its results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text, read_json, write_json
from semcore.study.markdown import render_study
from semcore.study.plots import can_draw, draw_tables

BEGUN = "begun.json"


def begin_study(out: Path, about: Mapping[str, Any]) -> None:
    """Record the common inputs of a study's variants, and refuse another study in its folder.

    Args:
        out: the folder.
        about: name of a common input -> plain data.

    Raises:
        UserError: the study was started with other inputs.
    """
    path = out / BEGUN
    before = {**about, **read_json(path)} if path.exists() else dict(about)
    for name, value in about.items():
        if before[name] != value:
            raise UserError(f"{out} was begun with {name} {before[name]!r}, not {value!r}; choose another --out")
    write_json(path, before)


def write_study(out: Path, study: Mapping[str, Any]) -> None:
    """Write study.json and study.md, with plots where matplotlib is installed."""
    whole = {**study, "plots": draw_tables(out, study) if can_draw() else {}}
    write_json(out / "study.json", whole)
    with atomic_text(out / "study.md") as handle:
        handle.write(render_study(whole))
