"""Imports and index builds of a start: the mechanism behind the seconds that benchmarks/startup.py measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.startup import FIRST, FLOOR, HELP, LATER, cpu_seconds, one_round, rows

ROOT = Path(__file__).resolve().parent.parent.parent
UNNEEDED = (
    "peft", "bitsandbytes", "deepspeed", "datasets", "sklearn", "sentence_transformers", "keybert", "matplotlib",
    "pandas", "torchvision", "torch._inductor.compile_fx", "semcore.training", "semcore.evaluation", "semcore.report",
)  # fmt: skip
REPORT = """
import json, sys
from semcore.commands import cli
try:
    cli.main()
finally:
    sys.stderr.write("MODULES " + json.dumps(sorted(sys.modules)))
"""


def modules_after(*arguments: str) -> set[str]:
    """Return the modules that a command has imported, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.rpartition("MODULES ")[2]))


def test_help_imports_no_library() -> None:
    libraries = {"jsonargparse", "yaml", "rich", "numpy", "torch", "transformers"}
    assert not libraries & modules_after("--help")


def test_a_search_of_a_whole_checkpoint_imports_what_it_needs(searchable_run: Any) -> None:
    found = modules_after("search", "--run", str(searchable_run.run), "a red circle", "--split", "test")
    assert "semcore.retrieval.retriever" in found
    assert not set(UNNEEDED) & found


def test_two_starts_are_measured(searchable_run: Any) -> None:
    taken = one_round(searchable_run.run, "a red circle", ROOT)
    assert list(taken) == [HELP, FIRST, LATER]
    assert 0 < taken[HELP] < taken[LATER]
    assert list((searchable_run.run / "index").iterdir())


def test_the_time_of_the_child_alone_counts() -> None:
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    assert 0.5 <= cpu_seconds(("-c", busy), ROOT) < 1.5
    assert cpu_seconds(("-c", "import time; time.sleep(0.7)"), ROOT) < 0.5


def test_rows_compare_medians() -> None:
    taken = {(HELP, "ours"): [1.0, 3.0, 2.0], (HELP, "peer"): [4.0, 5.0, 4.0], (FLOOR, "ours"): [1.0]}
    help_row, floor = rows(taken)
    assert (help_row.ours, help_row.peer, help_row.ratio) == (2.0, 4.0, 2.0)
    assert (floor.ours, floor.peer) == (1.0, None)


def test_what_was_measured_is_recorded() -> None:
    recorded = json.loads((ROOT / "benchmarks" / "results" / "startup-cpu.json").read_text())
    assert [row["name"] for row in recorded["rows"]] == [HELP, FIRST, LATER, FLOOR]
    assert "benchmarks.startup" in recorded["command"]
