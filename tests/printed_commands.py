"""Commands as they are printed: found in output and messages, and run in this process as a shell would run them."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest

PROGRAMS = ("python", "semcore", "accelerate", "rm")
PLACEHOLDER = re.compile(r"[A-Z]{2,}")


def lines_in(text: str) -> list[str]:
    """Return every command line: what stands behind "next:" at the begin of a line, and between backquotes."""
    found = re.findall(r"^(?:\w+: )?next: (.+)$", text, flags=re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    return [line for line in found if line.split()[0] in PROGRAMS]


def commands_of(line: str, **values: object) -> list[list[str]]:
    """Return the words of a line's commands, with values in the place of words such as DATA, as a user puts them."""
    words = [shlex.split(part) for part in line.split(" && ")]
    return [[str(values[w]) if PLACEHOLDER.fullmatch(w) and w in values else w for w in own] for own in words]


def execute(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command in this process and return its exit code; the files that a launcher names have to be there."""
    if words[0] == "rm":
        for path in (Path(name) for name in words[1:] if name != "-r"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return 0
    if words[0] == "semcore":
        words = ["python", "-m", "semcore.commands.cli", *words[1:]]
    place = next(number for number, word in enumerate(words) if word.endswith(".py") or word == "-m")
    missing = [w for w in words[:place] if w.endswith((".yaml", ".json", ".py")) and not Path(w).is_file()]
    assert not missing, f"{shlex.join(words)}: there is no {missing[0]}"
    is_module = words[place] == "-m"
    target, arguments = words[place + is_module], words[place + is_module + 1 :]
    monkeypatch.setattr(sys, "argv", [target, *arguments])
    try:
        if is_module:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(target, run_name="__main__")
    except SystemExit as left:
        return int(left.code or 0)
    return 0
