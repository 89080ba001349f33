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
    """Record what a study's folder belongs to, and refuse another study in it; variants may come and go.

    Args:
        out: the folder.
        about: name of a common input -> plain data, and "variants": name -> stage -> setting -> value.

    Raises:
        UserError: the study was started with other inputs, or a variant with other settings.
    """
    path = out / BEGUN
    before = read_json(path) if path.exists() else {}
    for name, value in about.items():
        if name != "variants" and before.get(name, value) != value:
            raise UserError(f"{out} was begun with {name} {before[name]!r}, not {value!r}; choose another --out")
    known = before.get("variants", {})
    for name, stages in about["variants"].items():
        _check_variant(out, name, known.get(name, {}), stages)
    write_json(path, {**about, "variants": {**known, **about["variants"]}})


def _check_variant(out: Path, name: str, known: Mapping[str, Any], stages: Mapping[str, Any]) -> None:
    for stage, settings in stages.items():
        before = known.get(stage, settings)
        for setting in sorted({*before, *settings}):
            if before.get(setting) != settings.get(setting):
                raise UserError(
                    f"variant {name} of {out} was begun with {stage}.{setting} {before.get(setting)!r}, not "
                    f"{settings.get(setting)!r}: give the variant another name, or choose another --out"
                )


def write_study(out: Path, study: Mapping[str, Any]) -> None:
    """Write study.json and study.md, with plots where matplotlib is installed."""
    whole = {**study, "plots": draw_tables(out, study) if can_draw() else {}}
    write_json(out / "study.json", whole)
    with atomic_text(out / "study.md") as handle:
        handle.write(render_study(whole))
