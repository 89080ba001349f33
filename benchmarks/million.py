"""A million items from captions to an evaluation: seconds and peak memory of each stage, beside a tenth of them.

    python -m benchmarks.million --out runs/million --json benchmarks/results/million.json \
        --table benchmarks/results/million.md
    python -m benchmarks.million --out runs/small --num-items 20000

Needs some 12 GB of disk for a million. Each stage is a command that users type, in a process of its own: import,
identifiers (with embeddings given), the rows of a training and its first step, an evaluation over the training split,
whose index has all items but a few, and two searches, of which the first builds and saves the index and the second maps
it into memory. The model is the checkpoint of the scenes with a step of training: what it finds says nothing.

What is in OUT already is not made again: a stage that was measured stays measured.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.importing import Cost, cost_of
from benchmarks.report import Row, publish
from semcore.commands.arguments import require_minimum, run_command
from semcore.runtime.files import atomic_text, read_json, write_json
from semcore.runtime.markdown_tables import markdown_table
from semcore.runtime.packaged_files import asset_folder, resource_folder

QUERY = "a man rides his horse along the beach"
MEASURED = "costs.json"


@dataclass
class Settings:
    """How large the corpus is."""

    out: Path
    """Folder of the corpora and runs."""
    num_items: int = 1_000_000
    """Images, each with a caption and a sentence; all is measured with a tenth of them too."""
    num_queries: int = 200
    """Queries of the evaluation."""
    keep: bool = False
    """Keep corpora and runs; false leaves what was measured."""
    json: Path | None = None
    """File to save the rows in."""
    table: Path | None = None
    """File to write them into as a table, in markdown."""

    def __post_init__(self) -> None:
        require_minimum(2_000, self, "num_items")  # the tenth has to have a caption a cluster
        require_minimum(1, self, "num_queries")


def main(settings: Settings) -> None:
    """Measure both sizes, and publish the rows."""
    sizes = [settings.num_items // 10, settings.num_items]
    small, large = (measure(settings.out / str(size), size, settings) for size in sizes)
    publish(rows(sizes, small, large), settings.json)
    if settings.table is not None:
        with atomic_text(settings.table) as handle:
            handle.write(table_of(sizes, small, large))


def stages(folder: Path, num_queries: int) -> dict[str, list[str]]:
    """Return name -> command of each stage, in their order."""
    source, data, run = folder / "source", folder / "data", folder / "run"
    python, where = sys.executable, ["--data", str(data), "--run", str(run)]
    semcore = [python, "-m", "semcore.commands.cli"]
    recipe = str(resource_folder("recipes") / "train_identifier.py")
    search = [*semcore, "search", "--run", str(run), "--split", "train", "--prior-weight", "0", QUERY]
    return {
        "import": [
            python, "-m", "data_prep.from_karpathy", "--json", str(source / "dataset.json"),
            "--images", str(source / "images"), "--out", str(data),
        ],
        "identifiers": [python, "-m", "data_prep.identifiers", *where, "--embeddings", str(source / "embeddings")],
        "training rows": [
            python, recipe, *where, "--directions", "[t2i]", "--model.base", str(asset_folder("scenes_base")),
            "--training.max_steps", "1", "--training.batch_size", "2", "--training.num_epochs", "1",
        ],
        "evaluation": [
            *semcore, "evaluate", *where, "--split", "train", "--limit", str(num_queries), "--verifier", "none",
            "--prior-weight", "0", "--ablations", "false", "--num-retention-queries", "0",
            "--num-exhaustive-queries", "0", "--num-no-match-queries", "0",
        ],
        "index, built and saved": search,
        "index, mapped into memory": search,
    }  # fmt: skip


def measure(folder: Path, num_items: int, settings: Settings) -> dict[str, Cost]:
    """Return the cost of each stage, measured now or before."""
    measured = folder / MEASURED
    costs = {name: Cost(*own) for name, own in read_json(measured).items()} if measured.exists() else {}
    if not (folder / "source" / "done").exists() and not costs:
        shutil.rmtree(folder / "source", ignore_errors=True)
        (folder / "source").mkdir(parents=True)
        subprocess.run(
            [sys.executable, "-m", "benchmarks.million_corpus", str(folder / "source"), str(num_items)], check=True
        )
        (folder / "source" / "done").touch()
        (folder / "run").mkdir(exist_ok=True)
        shutil.copyfile(folder / "source" / "captions.jsonl", folder / "run" / "captions.jsonl")
    for name, command in stages(folder, settings.num_queries).items():
        if name not in costs:
            costs[name] = cost_of(command, folder / f"{name}.log")
            print(f"{num_items}: {name}: {json.dumps(costs[name])}", flush=True)
            write_json(measured, {name: list(own) for name, own in costs.items()})
    for own in () if settings.keep else ("source", "data", "run"):
        shutil.rmtree(folder / own, ignore_errors=True)
    return costs


def rows(sizes: Sequence[int], small: Mapping[str, Cost], large: Mapping[str, Cost]) -> list[Row]:
    """Return the rows of the benchmark: seconds, peak memory, and how it grows."""
    fewer, number = sizes
    found = []
    for name, own in large.items():
        speed = f"{own.cpu_seconds:.0f} s of computing; of {fewer}: {small[name].seconds:.0f} s"
        growth = own.peak_bytes / small[name].peak_bytes
        found += [
            Row(f"{name} of {number}: time", own.seconds, None, None, "s", speed),
            Row(f"{name} of {number}: peak memory", own.peak_bytes, None, None, "bytes", _of(fewer, small[name])),
            Row(f"{name}: growth of peak memory from {fewer} to {number}", growth, None, None, "times"),
        ]
    return found


def table_of(sizes: Sequence[int], small: Mapping[str, Cost], large: Mapping[str, Cost]) -> str:
    """Return the costs as a table in markdown, one stage a line."""
    fewer, number = (f"{size:,}" for size in sizes)
    lines = [
        (
            name,
            f"{own.cpu_seconds:.0f}",
            f"{1e6 * (own.cpu_seconds - small[name].cpu_seconds) / (sizes[1] - sizes[0]):.0f}",
            f"{small[name].peak_bytes / 2**20:.0f}",
            f"{own.peak_bytes / 2**20:.0f}",
            f"{own.peak_bytes / small[name].peak_bytes:.2f}",
        )
        for name, own in large.items()
    ]
    header = ("stage", f"CPU s, {number}", "CPU µs an item", f"MiB, {fewer}", f"MiB, {number}", "growth")
    return markdown_table(header, lines, num_texts=1) + "\n"


def _of(size: int, cost: Cost) -> str:
    return f"of {size}: {cost.peak_bytes} bytes"


if __name__ == "__main__":
    run_command(main, Settings)
