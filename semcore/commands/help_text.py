"""Help of a command: its manual, its options in sections, and examples.

Texts are docstrings: the manual is that of the module that holds the settings, an option's text that of its field.
Sections are the fields of a class that several commands inherit, fields that are dataclasses themselves, and those
that start at a field named in the class's `help_sections`.
"""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from argparse import Action, HelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from jsonargparse import DefaultHelpFormatter

from semcore.commands.settings_schema import leaf_types, required_settings, sections_of
from semcore.models.verifier_registry import VERIFIERS, model_setting
from semcore.runtime.settings import option

PROGRAMS = ("semcore ", "python -m ", "python recipes/", "accelerate launch ", ".venv")
FOLDERS = (
    "base", "data", "dst", "earlier", "embeddings", "first", "folder", "images", "out", "run", "second", "src",
    "start", "static", "work",
)  # fmt: skip
FILES = (
    "captions", "config", "csv", "ids_file", "image", "json", "launcher", "profile", "readme", "study", "table",
    "token_file",
)  # fmt: skip
CHECKPOINTS = ("base", "model", *map(model_setting, VERIFIERS))
METAVARS: dict[Any, Mapping[str, str]] = {
    Path: dict.fromkeys(FOLDERS, "FOLDER") | dict.fromkeys(FILES, "FILE"),
    str: dict.fromkeys(CHECKPOINTS, "CHECKPOINT") | {"server": "URL", "allow_mismatch": "KINDS", "device": "DEVICE"},
}
"""Metavar of an option of this type and name."""
KINDS: dict[Any, str] = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH", bool: "{true,false}"}
"""Metavar of any other option of this type."""


class OptionGroup(NamedTuple):
    """A group of options in the help text."""

    title: str
    description: str
    settings_type: type
    prefix: str
    names: list[str]
    default: Any = None
    """An instance with the defaults, where they are not the class's own."""


def manual_of(settings_type: type) -> tuple[str, str]:
    """Return a command's description and its examples.

    An example is a paragraph that begins with a command, with the paragraph before it if that ends with a colon.
    """
    docstring = getattr(inspect.getmodule(settings_type), "__doc__", None) or ""
    text: list[str] = []
    examples: list[str] = []
    for paragraph in docstring.strip().split("\n\n"):
        if not _is_example(paragraph):
            text.append(paragraph)
            continue
        if len(text) > 1 and text[-1].endswith(":"):
            caption = text.pop()
            examples += [] if caption == "Run as:" else ["  " + caption.replace("\n", "\n  ")]
        examples.append(textwrap.indent(textwrap.dedent(paragraph), "    "))
    return "\n\n".join(text), "examples:\n" + "\n\n".join(examples) if examples else ""


def usage_of(settings_type: type, positional: Sequence[str], program: str) -> str:
    """Return the usage line, with the required options."""
    hints, required = leaf_types(settings_type), required_settings(settings_type)
    words = [key.upper() if key in required else f"[{key.upper()}]" for key in positional]
    words += [f"{option(key)} {metavar_of(key, hints[key])}" for key in required if key not in positional]
    return " ".join([program, *words, "[options]"])


def option_groups(
    settings_type: type, positional: Sequence[str] = (), prefix: str = "", default: Any = None
) -> Iterator[OptionGroup]:
    """Yield the options of settings in sections: positional ones, their own, inherited ones, and those of sections."""
    sections = sections_of(settings_type)
    titles = _titles(settings_type, positional, prefix)
    places = dict.fromkeys(titles.values())
    for title, description in sorted(places, key=lambda place: place[0] != "arguments"):
        names = [name for name in titles if titles[name] == (title, description) and name not in sections]
        if names:
            yield OptionGroup(title, description, settings_type, prefix, names, default)
    for name, section in sections.items():
        yield from option_groups(section.type, (), f"{prefix}{name}.", section.make_default())


def make_formatter(settings_type: type, positional: Sequence[str]) -> type[HelpFormatter]:
    """Return the formatter of a command's help text."""
    shown = {
        key: key.upper() if key in positional else " ".join(filter(None, (option(key), metavar_of(key, hint))))
        for key, hint in leaf_types(settings_type).items()
    }
    switches = [key for key, hint in leaf_types(settings_type).items() if hint is bool]
    return type("Formatter", (_Formatter,), {"shown": shown, "switches": switches})


def metavar_of(key: str, hint: Any) -> str:
    """Return an option's metavar: FOLDER, N, {a,b}, [TEXT,...]."""
    name, inner = key.rpartition(".")[2], get_args(hint)
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, inner)) + "}"
    if get_origin(hint) in (Union, UnionType):
        return "|".join(metavar_of(key, choice) for choice in inner if choice is not NoneType)
    if get_origin(hint) in (list, tuple):
        return f"[{metavar_of(name.removesuffix('s'), inner[0])},...]"
    return METAVARS.get(hint, {}).get(name, KINDS[hint])


class _Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Formatter of options: dashes, metavars, and the default after the text, or that the option is required."""

    shown: Mapping[str, str]
    switches: Sequence[str]

    def _format_action_invocation(self, action: Action) -> str:
        if action.dest not in self.shown:
            return ", ".join(action.option_strings)
        invocation = self.shown[action.dest]
        return invocation.split()[0] if action.dest in self.switches and not action.default else invocation

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if action.dest not in self.shown:
            return text
        note = "required" if action.required else _note(action.default)
        return f"{text} ({note})" if note else text


def _note(default: Any) -> str:
    """Return the help text's note on a default; "" where it is None, empty or a switch that is off."""
    if default in (None, "", [], ()) or default is False:
        return ""
    if isinstance(default, (list, tuple)):
        return f"default: {', '.join(map(str, default))}"
    return f"default: {str(default).lower() if default is True else default}"


def _is_example(paragraph: str) -> bool:
    return paragraph.lstrip().startswith(PROGRAMS)


def _titles(settings_type: type, positional: Sequence[str], prefix: str) -> dict[str, tuple[str, str]]:
    """Return the title and the description that each field stands under; own fields before inherited ones."""
    own: dict[str, tuple[str, str]] = {}
    inherited: dict[str, tuple[str, str]] = {}
    about = _first_line(settings_type) if prefix else ""  # the command itself has its manual
    first = place = (f"{prefix.rstrip('.')} options".lstrip().replace("_", "-"), about)
    last_owner: type | None = None
    for field in dataclasses.fields(settings_type):
        owner = next(kind for kind in settings_type.__mro__ if field.name in inspect.get_annotations(kind))
        if field.name in positional:
            own[field.name] = ("arguments", "")
        elif owner is settings_type or prefix:  # a section of a command is one, whatever it inherits
            if owner is not last_owner:
                place, last_owner = first, owner
            if section := getattr(owner, "help_sections", {}).get(field.name):
                place = (f"{section} options", "")
            own[field.name] = place
        else:
            name = owner.__name__.removesuffix("Settings").lower()
            inherited[field.name] = (f"{name} options", _first_line(owner))
    return own | inherited


def _first_line(settings_type: type) -> str:
    """Return the first line of a class's docstring; "" for the one that dataclasses generate."""
    first = inspect.cleandoc(settings_type.__doc__ or "").split("\n", 1)[0]
    return "" if first.startswith(f"{settings_type.__name__}(") else first
