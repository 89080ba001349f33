"""The README tells the truth: its commands exist, its links lead somewhere, its numbers were measured."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest

from semcore.commands import cli
from semcore.commands.quickstart import QuickstartSettings, plan

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")]
MEASURED = [ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "guides" / "ways_to_train.md"]
PROGRAMS = ("make", "semcore", "python", "accelerate", ".ci/run")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def commands_in(text: str) -> list[str]:
    """Return the commands of a document: blocks of shell, indented lines, and code within lines."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).splitlines()
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    indented = [line.strip().partition("  #")[0] for line in re.findall(r"^ {4}(\S.*)$", text, flags=re.MULTILINE)]
    found = [*(line for line in blocks if line), *indented, *re.findall(r"`([^`\n]+ [^`\n]+)`", text)]
    return [command for command in found if command.split()[0] in PROGRAMS]


COMMANDS = sorted({command for document in DOCUMENTS for command in commands_in(document)})
QUICKSTART = [shlex.join(step.command) for step in plan(QuickstartSettings(Path("RUN")))]


def test_the_readme_leads_with_the_two_commands() -> None:
    assert commands_in(README)[:2] == ["make quickstart", "make test"]
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", [*COMMANDS, *QUICKSTART])
def test_a_command_and_its_options_exist(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    elif words[0] == ".ci/run":
        assert (ROOT / ".ci" / "run").is_file()
    elif words[:3] != ["python", "-m", "build"] and words != ["accelerate", "launch"]:
        launcher = words.index("--config_file") if words[0] == "accelerate" else None
        if launcher:
            assert (ROOT / words[launcher + 1]).is_file()
        settings, arguments = settings_of(words)
        options = {word[2:].partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--")}
        assert options <= set(names_of(settings))


def settings_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the dataclass that a command fills, and the command's own arguments."""
    if words[0] == "semcore":
        command = cli.COMMANDS[words[1]]
        return getattr(importlib.import_module(f"semcore.commands.{command.module}"), command.settings), words[2:]
    if words[:2] == ["python", "-m"]:
        return importlib.import_module(words[2]).Settings, words[3:]
    place = next(number for number, word in enumerate(words) if word.endswith(".py"))
    module = load(ROOT / words[place])
    return getattr(module, "Settings", None) or module.EvaluateSettings, words[place + 1 :]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def names_of(settings: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every setting."""
    hints = get_type_hints(settings)
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from names_of(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


@pytest.mark.parametrize("name", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_a_link_leads_somewhere(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_python_code_is_valid(code: str) -> None:
    assert ast.parse(code).body


def test_the_counts_of_the_quickstart_are_its_defaults() -> None:
    counts = QuickstartSettings(Path("out"))
    assert f"draws {counts.train + counts.val + counts.test:,} pictures" in README
    assert f"searches {counts.test} unseen pictures" in README


@pytest.mark.parametrize("document", MEASURED, ids=lambda path: path.name)
def test_every_measured_number_is_held_by_its_results_file(document: Path) -> None:
    """A cell's row in the file is named by its line's labels and its column: "text → image, generated, R@1"."""
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- results: (\S+) -->(.*?)<!-- /results -->", text, flags=re.DOTALL)
    assert blocks
    for name, block in blocks:
        held = held_in(ROOT / name)
        for cell, number in cells_of(block):
            decimals = len(number.partition(".")[2])
            assert cell in held, f"{name} has no row named {cell!r}"
            assert f"{held[cell]:.{decimals}f}" == number, f"{cell} is {held[cell]} in {name}"


def held_in(path: Path) -> dict[str, float]:
    if not path.exists():
        return {}
    return {row["name"]: row["ours"] for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}


def cells_of(block: str) -> Iterator[tuple[str, str]]:
    """Yield the full name and the number of every cell of the block's tables that holds a number."""
    header: list[str] = []
    for line in block.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells
        elif not all(set(cell) <= set("-: ") for cell in cells):
            labels = [cell for cell in cells if not NUMBER.fullmatch(cell) and cell != "–"]
            for column, cell in zip(header, cells, strict=True):
                if NUMBER.fullmatch(cell):
                    yield ", ".join([*labels, column]), cell


def test_cells_are_named_by_their_line_and_column() -> None:
    block = "| direction | ranking | R@1 | R@5 |\n|---|---|--:|--:|\n| text → image | generated | 51.2 | – |\n"
    assert list(cells_of(block)) == [("text → image, generated, R@1", "51.2")]
