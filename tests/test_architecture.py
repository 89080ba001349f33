"""The house stands: imports go down or stay on their floor, and some rooms need no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "semcore"

# Floor by room; a room is a module or a folder of semcore. A new one is given its floor here.
FLOORS = {
    6: ("cli", "quickstart", "serving", "evaluate", "outcome", "study"),
    5: ("candidates", "report"),
    4: (
        "retriever", "evaluation", "generator", "shortlists", "measuring", "reordering", "ablations", "baselines",
        "weighing", "environment", "scaffold", "planning",
    ),
    3: ("training", "verification", "captioning", "served_captions"),
    2: (
        "decoding", "identifiers", "items", "features", "embedding", "inference", "merging", "lineage", "run_lineage",
        "row_digests",
    ),
    1: (
        "adapters", "checkpoint", "conversion", "inputs", "key_value_cache", "models", "next_steps", "prompting",
        "quantization", "shards", "special_tokens", "suitability", "vision", "weight_files",
    ),
    0: (
        "dataset", "runfolder", "errors", "commandline", "configfile", "files", "machine", "processes", "resources",
        "settings", "settings_schema", "stopwatch", "chunks", "steps", "folders", "limits", "chat_client",
        "tested_versions", "images", "text_files", "text", "yaml_values", "one_folder", "caption_text",
        "fingerprints", "places", "stage_changes", "typed_commands",
    ),
}  # fmt: skip
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
WITHOUT_TORCH = (
    "errors", "dataset", "runfolder", "commandline", "evaluation", "report", "identifiers", "resources",
    "prompting", "cli", "quickstart", "scaffold",
)  # fmt: skip
# `semcore` itself hands out the Retriever, at its first use.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the dotted name of everything a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: write the import from the package's root"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_or_stay_on_their_floor(path: Path) -> None:
    floor = FLOOR_OF[room_of(path)]
    for name in imported_modules(path):
        package, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        if package == "semcore" and room in FLOOR_OF:
            assert FLOOR_OF[room] <= floor, f"{name}: from floor {floor} up to {FLOOR_OF[room]}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_library_knows_no_command(path: Path) -> None:
    packages = {name.partition(".")[0] for name in imported_modules(path)}
    assert not packages & {"recipes", "data_prep", "benchmarks", "tests"}


def test_only_commandline_knows_jsonargparse() -> None:
    users = {room_of(path) for path in MODULES if any("jsonargparse" in name for name in imported_modules(path))}
    assert users == {"commandline"}


def test_rooms_without_torch_import_without_it() -> None:
    rooms = [f"semcore.{room}" for room in WITHOUT_TORCH]
    code = f"import {', '.join(rooms)}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_room_has_one_floor() -> None:
    rooms = [room for floor in FLOORS.values() for room in floor]
    assert len(rooms) == len(set(rooms))
    assert {room_of(path) for path in MODULES} <= set(rooms)
