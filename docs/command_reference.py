"""Reference of the commands: a page each, made from what their --help is made from.

`docs/conf.py` calls `write_pages` at the begin of a build. The pages are MyST markdown in docs/reference/commands; git
ignores them.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from semcore.commands import cli
from semcore.commands.arguments import make_parser
from semcore.commands.help_text import manual_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference" / "commands"


@dataclass(frozen=True)
class Documented:
    """A command as it is typed, with what its help is made from."""

    command: str
    settings: type
    positional: Sequence[str] = ()

    @property
    def page(self) -> str:
        """Return the name of the command's page."""
        return re.sub(r"\W+", "-", self.command.removeprefix("python").replace("-m ", "")).strip("-")


def write_pages(folder: Path = PAGES, commands: Sequence[Documented] = ()) -> None:
    """Write a page a command, by default of all, and their list; what has not changed is not written again."""
    commands = commands or list(documented_commands())
    pages = {f"{entry.page}.md": page_of(entry) for entry in commands} | {"index.md": index_of(commands)}
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.md"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def documented_commands() -> Iterator[Documented]:
    """Yield every command of a user: semcore's, those that prepare data, and the recipes."""
    for name, command in cli.COMMANDS.items():
        module = importlib.import_module(f"semcore.commands.{command.module}")
        yield Documented(f"semcore {name}", getattr(module, command.settings), command.positional)
    for folder in ("data_prep", "recipes"):
        for path in sorted((ROOT / folder).glob("*.py")):
            if (call := command_call(path)) is not None:
                typed = f"python -m data_prep.{path.stem}" if folder == "data_prep" else f"python recipes/{path.name}"
                yield Documented(typed, getattr(load(path), settings_name(call)), positional_of(call))


def command_call(path: Path) -> ast.Call | None:
    """Return a script's call of `run_command`; None where it has none."""
    calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return next((call for call in calls if getattr(call.func, "id", None) == "run_command"), None)


def settings_name(call: ast.Call) -> str:
    """Return the name of the dataclass that a call of `run_command` fills."""
    return ast.unparse(call.args[1])


def positional_of(call: ast.Call) -> Sequence[str]:
    """Return the settings that a call of `run_command` takes without their names."""
    return next((ast.literal_eval(word.value) for word in call.keywords if word.arg == "positional"), ())


def load(path: Path) -> ModuleType:
    """Import a script as a module that is not the main one."""
    if path.parent.name == "data_prep":
        return importlib.import_module(f"data_prep.{path.stem}")
    spec = importlib.util.spec_from_file_location(f"documented_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def page_of(entry: Documented) -> str:
    """Return a command's page: usage, manual, options by section, examples."""
    parser = make_parser(entry.settings, tuple(entry.positional), entry.command)
    description, examples = manual_of(entry.settings)
    formatter: Any = parser._get_formatter()
    program = f"```{{program}} {entry.command}\n```"
    parts = [f"# `{entry.command}`", fenced(f"usage: {parser.usage}"), *manual(description), program]
    for group in parser._action_groups:
        shown = [
            action for action in group._group_actions if action.help != SUPPRESS
        ]  # jsonargparse adds one of its own
        if shown and group.title != "help":
            parts += [f"## {group.title}", *([prose(group.description)] if group.description else [])]
            parts += [option_of(action, formatter) for action in shown]
    if examples:
        parts += ["## examples", *examples_of(examples)]
    return "\n\n".join(parts) + "\n"


def option_of(action: Action, formatter: Any) -> str:
    """Return the entry of an option, with its text and default as --help has them."""
    text = " ".join(formatter._get_help_string(action).split())
    return f"```{{option}} {formatter._format_action_invocation(action)}\n{prose(text)}\n```"


def index_of(commands: Sequence[Documented]) -> str:
    """Return the list of all pages, each with the first line of its manual."""
    heads = {"semcore": "semcore", "python -m": "Preparing data", "python rec": "Recipes"}
    parts = ["# Commands", "Made from the code, as `--help` is. Any option can be written with dashes or underscores."]
    for begin, title in heads.items():
        own = [entry for entry in commands if entry.command.startswith(begin)]
        rows = [f"| [`{one.command}`]({one.page}.md) | {first_line(one.settings)} |" for one in own]
        parts += [f"## {title}", "\n".join(["| command | what it does |", "|---|---|", *rows])]
    names = "\n".join(entry.page for entry in commands)
    return "\n\n".join([*parts, f"```{{toctree}}\n:hidden:\n\n{names}\n```"]) + "\n"


def first_line(settings: type) -> str:
    """Return the first sentence of a command's manual."""
    return prose(" ".join(manual_of(settings)[0].split("\n\n")[0].split()))


def manual(description: str) -> Iterator[str]:
    """Yield a manual's paragraphs as markdown; indented lines stand as they are."""
    for paragraph in description.split("\n\n"):
        lines = paragraph.splitlines()
        begin = next((place for place, line in enumerate(lines) if line.startswith(" ")), len(lines))
        if lines[:begin]:
            yield prose("\n".join(lines[:begin]))
        if lines[begin:]:
            yield fenced(textwrap.dedent("\n".join(lines[begin:])), "text")


def examples_of(examples: str) -> Iterator[str]:
    """Yield a manual's examples as markdown: the commands, and what is said above some of them."""
    for paragraph in examples.partition("\n")[2].split("\n\n"):
        is_command = paragraph.startswith("    ")
        yield fenced(textwrap.dedent(paragraph)) if is_command else prose(textwrap.dedent(paragraph))


def prose(text: str) -> str:
    """Return plain text as markdown: what would be markup is escaped, code between backquotes stays."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>\[\]|])", r"\\\1", part) for part in parts)


def fenced(text: str, language: str = "sh") -> str:
    """Return a block of code."""
    return f"```{language}\n{text.strip()}\n```"
