"""Analyses of one direction as sections, and what an evaluation has not measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from semcore import __version__
from semcore.report.confidence_sections import calibration_section, no_match_section, risk_section
from semcore.report.search_sections import cost_section, exhaustive_section, retention_section
from semcore.report.sections import Section
from semcore.runtime.typed_commands import command

_SECTIONS: dict[str, tuple[str, Callable[[Any], Section]]] = {
    "prefix_retention": ("prefix retention", retention_section),
    "exhaustive": ("exhaustive search", exhaustive_section),
    "calibration": ("calibration", calibration_section),
    "no_match": ("no-match detection", no_match_section),
    "cost": ("efficiency (--cost true)", cost_section),
}


def direction_sections(metrics: Mapping[str, Any], direction: str) -> list[Section]:
    """Return the sections of one direction, and a last one that names what was not measured.

    Args:
        metrics: metrics.json.
        direction: "t2i" or "i2t".
    """
    sections, missing = [], []
    for key, (name, make) in _SECTIONS.items():
        figures = metrics.get(key, {}).get(direction)
        if not figures:
            missing.append(name)
            continue
        sections.append(make(figures))
        if key == "calibration" and (risk := risk_section(figures.get("coverage_risk", {}))) is not None:
            sections.append(risk)
    if missing:
        how = command("semcore", "evaluate", "--help")
        sections.append(
            Section("Not measured", [f"This evaluation did not measure {', '.join(missing)}; `{how}` has the options."])
        )
    return sections


def version_note(manifest: Mapping[str, Any]) -> str:
    """Say that a run was measured by another version than the one that writes the report; empty otherwise."""
    measured_by = manifest.get("semcore")
    if measured_by in (None, __version__):
        return ""
    return f"measured by semcore {measured_by}, this report is written by {__version__}"
