"""The way of one query: the files that it passes, and that CONTRIBUTING names each of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from semcore import Retriever
from tests.run_fixtures import SearchableRun

ROOT = Path(__file__).resolve().parent.parent
MOST_FILES = 35  # 29 before there were sessions, directions, one module of masks and a registry of verifiers


def functions_passed(work: Callable[[], Any]) -> dict[str, set[str]]:
    """Return file -> functions of `semcore/` that are called."""
    passed: dict[str, set[str]] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT / "semcore"):
            passed.setdefault(str(path.relative_to(ROOT / "semcore")), set()).add(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return passed


@pytest.mark.parametrize("verifier", ["listwise", "pointwise", "likelihood"])
def test_a_query_passes_few_files_and_contributing_names_them(finished_training: SearchableRun, verifier: Any) -> None:
    retriever = Retriever.from_run(finished_training.run, split="test", verifier=verifier, device="cpu")
    retriever.search(text="a red circle", top_k=3)
    passed = functions_passed(lambda: retriever.search(text="a blue circle", top_k=3))
    head = f"\n{verifier}: {len(passed)} files, {sum(map(len, passed.values()))} functions"
    sys.stdout.write("\n    ".join([head, *sorted(passed)]) + "\n")
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert {name for name in passed if f"`{name}`" not in guide} == set()
    assert len(passed) <= MOST_FILES


def test_the_guide_names_files_that_exist() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walk = guide[guide.index("A text query") : guide.index("A training row")].split("|---|---|")[1]
    named = {part for part in walk.split("`") if part.endswith(".py")}
    assert len(named) > MOST_FILES
    assert {name for name in named if not (ROOT / "semcore" / name).is_file()} == set()
