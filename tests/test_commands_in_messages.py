"""Commands that stand in the sources' messages exist, with their options, and lack nothing that they need."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest

from tests.test_readme import names_of, settings_of

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for room in ("semcore", "data_prep", "recipes") for path in (ROOT / room).rglob("*.py"))
QUOTED = re.compile(r"`((?:python|semcore|accelerate launch) [^`\n]+)`")
BARE = re.compile(r"(?:python -m data_prep\.\w+|python recipes/\w+\.py|semcore [a-z-]+(?= (?:--|[A-Z])))[^`;,\n]*")


class Found(NamedTuple):
    """A command in a message: where, as it is written there, and whether it is one to type."""

    place: str
    line: str
    to_type: bool


def messages_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text of every string but docstrings; what is filled in stands there as X."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    bare = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings are such
    inner = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if id(node) in bare or id(node) in inner:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(p.value if isinstance(p, ast.Constant) else "X" for p in node.values)  # type: ignore[misc]


def found_in(path: Path) -> Iterator[Found]:
    for number, text in messages_of(path):
        place = f"{path.relative_to(ROOT)}, line {number}"
        yield from (Found(place, line, True) for line in QUOTED.findall(text))
        yield from (Found(place, line, False) for line in BARE.findall(re.sub(QUOTED, "", text)))


FOUND = [found for path in SOURCES if path.name != "card.py" for found in found_in(path)]  # a card is a document


def required_by(settings: Any, prefix: str = "") -> set[str]:
    """Return the settings without a default."""
    hints = get_type_hints(settings)
    names: set[str] = set()
    for field in dataclasses.fields(settings):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            own, name = hints[field.name], prefix + field.name
            names |= required_by(own, f"{name}.") if dataclasses.is_dataclass(own) else {name}
    return names


def test_there_are_commands_in_messages() -> None:
    assert {found.to_type for found in FOUND} == {True, False}


@pytest.mark.parametrize("found", FOUND, ids=lambda found: f"{found.place}: {found.line}")
def test_a_command_in_a_message_can_be_typed(found: Found) -> None:
    words = shlex.split(found.line)
    settings, arguments = settings_of(words)
    options = {word[2:].partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--")}
    assert options <= {*names_of(settings), "help"}, found
    positional = [word for word in arguments[:2] if not word.startswith("--")]
    lacking = required_by(settings) - options
    assert not found.to_type or "help" in options or len(lacking) <= len(positional), f"{found}: {lacking} missing"


def test_what_is_printed_for_the_user_to_type_is_quoted() -> None:
    """A path goes into a command through `semcore.runtime.typed_commands`, so that a shell reads it as one word."""
    assert [found for found in FOUND if "X" in shlex.split(found.line)] == []
