"""Commands of the repository, started as a user starts them but stopped before they do anything."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from semcore.commands import arguments, cli

ROOT = Path(__file__).resolve().parent.parent
MODULES = [
    f"{folder}.{path.stem}"
    for folder in ("data_prep", "benchmarks")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "run_command(" in path.read_text(encoding="utf-8")
]
COMMANDS = [
    *(f"semcore {name}" for name in cli.COMMANDS),
    *(f"python -m {module}" for module in MODULES),
    *(f"python recipes/{path.name}" for path in sorted((ROOT / "recipes").glob("*.py"))),
]


class Parsed(Exception):
    """The settings that a command line asks for."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings


def help_of(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command prints for --help."""
    with pytest.raises(SystemExit) as leaving:
        start([*command.split(), "--help"], monkeypatch)
    assert leaving.value.code == 0
    return capsys.readouterr().out


def settings_of(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the settings that a command line makes, without running it."""
    parse = arguments.parse

    def stop(*args: Any, **options: Any) -> Any:
        raise Parsed(parse(*args, **options))

    with monkeypatch.context() as patch:
        patch.setattr(arguments, "parse", stop)
        with pytest.raises(Parsed) as parsed:
            start(words, patch)
    return parsed.value.settings


def start(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the words of a command in this process, from the root of the repository; a launcher's own are skipped."""
    monkeypatch.chdir(ROOT)
    if words[0] == "semcore":
        monkeypatch.setattr(sys, "argv", list(words))
        cli.main()
        return
    place = next(number for number, word in enumerate(words) if word == "-m" or word.endswith(".py"))
    named = words[place + 1] if words[place] == "-m" else None
    path = ROOT / (f"{named.replace('.', '/')}.py" if named else words[place])
    rest = words[place + 2 :] if named else words[place + 1 :]
    monkeypatch.setattr(sys, "argv", [words[place] if named is None else str(path), *rest])
    with main_module(path, named) as module:
        exec(compile(path.read_text(encoding="utf-8"), path, "exec"), module.__dict__)


@contextmanager
def main_module(path: Path, named: str | None) -> Iterator[ModuleType]:
    """Make an empty module the main one for a while."""
    module, before = ModuleType("__main__"), sys.modules["__main__"]
    module.__file__ = str(path)
    module.__spec__ = ModuleSpec(named, None) if named else None
    sys.modules["__main__"] = module
    try:
        yield module
    finally:
        sys.modules["__main__"] = before
