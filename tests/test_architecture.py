"""Architecture: every import goes down, no two modules import each other, and some rooms need no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "semcore"

# From the ground up. A room imports itself and the floors below; rooms of one floor do not know each other.
FLOORS = (
    ("runtime",),
    ("data",),
    ("models", "identifiers", "decoding"),
    ("verification",),
    ("retrieval",),
    ("training", "evaluation"),
    ("report", "study", "serving"),
    ("demo",),
    ("commands",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MOST_ENTRIES = 16  # the fourteen rooms, __init__.py and assets/
PROGRAMS = ("semcore", "data_prep", "recipes", "benchmarks")

# Rooms that import without torch (nor transformers), and modules that do so in rooms that need it.
WITHOUT_TORCH = (
    "semcore.runtime", "semcore.data", "semcore.identifiers", "semcore.report",
    "semcore.models.adapters", "semcore.models.compatibility", "semcore.models.prompts",
    "semcore.models.run_checkpoints", "semcore.models.weight_files",
    "semcore.evaluation.folds", "semcore.evaluation.metrics", "semcore.evaluation.per_query",
    "semcore.evaluation.statistics", "semcore.evaluation.trec",
    "semcore.study.commands", "semcore.study.files", "semcore.study.markdown", "semcore.study.definition",
    "semcore.commands.arguments", "semcore.commands.cli", "semcore.commands.convert", "semcore.commands.merge_adapter",
    "semcore.commands.search", "semcore.commands.demo", "semcore.commands.init", "semcore.commands.quickstart",
)  # fmt: skip

WITH_TORCH = ("semcore.identifiers.rqvae",)  # trains, and is imported where that is asked for


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for program in PROGRAMS for path in sorted((ROOT / program).rglob("*.py"))}


def imported_names(path: Path) -> Iterator[str]:
    """Yield the dotted name of everything a module imports: inside functions and for types alone, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: write the import from the package's root"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(name: str) -> set[str]:
    """Return the modules of this repository that a module imports."""
    found = set()
    for imported in imported_names(MODULES[name]):
        if imported in MODULES:
            found.add(imported)
        elif (parent := imported.rpartition(".")[0]) in MODULES:
            found.add(parent)
    return found - {name}


# `semcore` itself hands out the Retriever, at its first use; whoever imports a module of it has imported it before.
GRAPH = {name: imported_modules(name) - {"semcore"} for name in MODULES if name != "semcore"}


def room_of(name: str) -> str:
    return name.split(".")[1]


def goes_down(importer: str, imported: str) -> bool:
    """Tell whether an import stays in its room or goes to a lower floor."""
    here, there = room_of(importer), room_of(imported)
    return here == there or FLOOR_OF[there] < FLOOR_OF[here]


def wrong_imports() -> set[str]:
    return {
        f"{importer} -> {imported}"
        for importer, all_imported in GRAPH.items()
        if importer.startswith("semcore.")
        for imported in all_imported
        if imported.startswith("semcore.") and not goes_down(importer, imported)
    }


def find_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_import_goes_down_or_stays_in_its_room() -> None:
    assert wrong_imports() == set()


def test_no_modules_import_each_other() -> None:
    assert find_cycle(GRAPH) == []


def test_a_cycle_is_found() -> None:
    assert set(find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


def test_a_stranger_sees_the_rooms_alone() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries == {*FLOOR_OF, "__init__.py", "assets"}
    assert len(entries) <= MOST_ENTRIES


@pytest.mark.parametrize("room", FLOOR_OF)
def test_every_room_says_what_it_is_for(room: str) -> None:
    assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))


def test_the_library_knows_no_command() -> None:
    others = {*PROGRAMS, "tests"} - {"semcore"}
    for name, path in MODULES.items():
        if name.partition(".")[0] == "semcore":
            packages = {imported.partition(".")[0] for imported in imported_names(path)}
            assert not packages & others, name


def test_only_the_parser_of_arguments_and_its_help_know_jsonargparse() -> None:
    users = {name for name, path in MODULES.items() if any("jsonargparse" in found for found in imported_names(path))}
    assert users == {"semcore.commands.arguments", "semcore.commands.help_text"}


def test_what_needs_no_torch_imports_without_it() -> None:
    for start in WITHOUT_TORCH:
        assert start in MODULES, f"{start} is gone; take it out of WITHOUT_TORCH, or put its new name there"
    names = [name for name in MODULES if _is_part(name)]
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    for heavy in {'torch', 'transformers'} & sys.modules.keys():\n"
        "        sys.exit(f'{name} imports {heavy}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _is_part(name: str) -> bool:
    return name not in WITH_TORCH and any(name == start or name.startswith(f"{start}.") for start in WITHOUT_TORCH)
