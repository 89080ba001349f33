"""Schema of a settings dataclass: its fields by dotted name; fields that are dataclasses are sections."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, get_type_hints

S = TypeVar("S")


class Section(NamedTuple):
    """A field that is a dataclass."""

    type: type
    make_default: Callable[[], Any]
    """Returns the default; None where the field has none, though the section's own fields may."""


def sections_of(settings_type: type) -> dict[str, Section]:
    """Return the fields that are dataclasses, by name."""
    hints = get_type_hints(settings_type)
    sections: dict[str, Section] = {}
    for field in dataclasses.fields(settings_type):
        if dataclasses.is_dataclass(hint := hints[field.name]):
            factory = field.default_factory
            make_default = (lambda: None) if factory is dataclasses.MISSING else factory
            sections[field.name] = Section(hint, make_default)  # type: ignore[arg-type]
    return sections


def leaf_types(settings_type: type, prefix: str = "") -> dict[str, Any]:
    """Return the type of every setting by its dotted name, including those of sections."""
    sections = sections_of(settings_type)
    leaves: dict[str, Any] = {}
    hints = get_type_hints(settings_type)
    for name in (field.name for field in dataclasses.fields(settings_type)):
        below = (
            leaf_types(sections[name].type, f"{prefix}{name}.") if name in sections else {prefix + name: hints[name]}
        )
        leaves.update(below)
    return leaves


def required_settings(settings_type: type, prefix: str = "") -> list[str]:
    """Return the dotted names of the settings that have no default."""
    sections = sections_of(settings_type)
    names: list[str] = []
    for field in dataclasses.fields(settings_type):
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING:
            continue
        section = sections.get(field.name)
        key = prefix + field.name
        names += required_settings(section.type, f"{key}.") if section else [key]
    return names


def build(settings_type: type[S], values: Mapping[str, Any]) -> S:
    """Build the settings from parsed values, sections first; a section's values are a namespace."""
    built: dict[str, Any] = {
        name: build(section.type, vars(values[name])) for name, section in sections_of(settings_type).items()
    }
    return settings_type(**{**values, **built})
