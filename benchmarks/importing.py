"""Import of a synthetic dataset of MSCOCO's size: 123,287 images with five sentences each.

    python -m benchmarks.importing
    python -m benchmarks.importing --num-images 10000 --json importing.json

The JSON file has the real layout; every image is a link to one of a hundred small images, so the time
is that of reading captions, opening files and writing metadata, and not that of decoding COCO's 19 GB.
The import runs as the command that users type, in a process of its own whose peak memory is measured.
The peer reads the same file whole with `json.load` and holds it, as scripts for this format do; it does
nothing else. The ratio compares peak memories, and a small import shows what grows with the corpus.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from benchmarks.report import Row, lower_is_better, publish
from semcore.commands.arguments import require_minimum, run_command

NUM_PICTURES = 100  # links to one file are limited to 65,000 on common file systems
WORDS = ("a", "man", "in", "red", "rides", "his", "horse", "along", "the", "wide", "beach", "near", "some", "houses")
READ_WHOLE = "import json, sys; document = json.load(open(sys.argv[1])); print(len(document['images']))"

# A process that starts another, whose output goes into a file, and prints its peak memory in KiB and its seconds of
# computing.
WATCH = """
import resource, subprocess, sys
with open(sys.argv[1], "w") as log:
    subprocess.run(sys.argv[2:], check=True, stdout=log, stderr=log)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
"""


@dataclass
class Settings:
    """How large the dataset is."""

    num_images: int = 123_287
    """Images, each with five sentences."""
    json: Path | None = None
    """Save the rows in this file."""

    def __post_init__(self) -> None:
        require_minimum(100, self, "num_images")


class Cost(NamedTuple):
    """Cost of a process; `cpu_seconds` is its computing time on all cores."""

    seconds: float
    peak_bytes: int
    cpu_seconds: float


def main(settings: Settings) -> None:
    """Make the dataset's source, import it, and measure both processes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = measured_import(make_source(folder / "small", settings.num_images // 10), folder / "small_data")
        source = make_source(folder / "coco", settings.num_images)
        ours = measured_import(source, folder / "data")
        peer = cost_of([sys.executable, "-c", READ_WHOLE, str(source / "dataset.json")])
        publish(rows(settings.num_images, ours, peer, small), settings.json)


def rows(num_images: int, ours: Cost, peer: Cost, small: Cost) -> list[Row]:
    """Return the rows of the benchmark."""
    size = f"{num_images} images, {5 * num_images} sentences"
    speed = f"{num_images / ours.seconds:.0f} images/s; {ours.cpu_seconds:.0f} s of computing"
    growth = f"{ours.peak_bytes / small.peak_bytes:.2f} times that of a tenth of the images"
    return [
        lower_is_better(f"import of {size}: time", ours.seconds, None, "s", speed),
        lower_is_better(f"import of {size}: peak memory", ours.peak_bytes, peer.peak_bytes, "bytes", growth),
        lower_is_better("import of a tenth of it: peak memory", small.peak_bytes, None, "bytes"),
    ]


def measured_import(source: Path, out: Path) -> Cost:
    """Import a source with the command."""
    arguments = ["--json", source / "dataset.json", "--images", source / "images", "--out", out]
    return cost_of([sys.executable, "-m", "data_prep.from_karpathy", *map(str, arguments)])


def cost_of(command: list[str], log: Path = Path(os.devnull)) -> Cost:
    """Run a command, whose output goes into a file, and return its seconds and its own peak memory."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", WATCH, str(log), *command], capture_output=True, text=True, check=True)
    peak, computing = done.stdout.split()
    return Cost(time.monotonic() - started, int(peak) * 1024, float(computing))


def make_source(folder: Path, num_images: int) -> Path:
    """Write captions in the layout of dataset_coco.json, and its two folders of linked images."""
    for name in ("train2014", "val2014"):
        (folder / "images" / name).mkdir(parents=True)
    pictures = [folder / f"{number}.jpg" for number in range(NUM_PICTURES)]
    for number, path in enumerate(pictures):
        Image.effect_noise((32, 24), number).save(path)
    with (folder / "dataset.json").open("w") as handle:
        handle.write('{"images": [')
        for number, entry in enumerate(entries(num_images)):
            handle.write(("," if number else "") + json.dumps(entry))
            (folder / "images" / entry["filepath"] / entry["filename"]).hardlink_to(pictures[number % NUM_PICTURES])
        handle.write('], "dataset": "coco"}')
    return folder


def entries(num_images: int) -> Iterator[dict[str, Any]]:
    """Yield entries in the form of dataset_coco.json, with its fraction of each split; at its size, with its counts."""
    for number in range(num_images):
        place = number * 123_287 // num_images
        split = "train" if place < 82_783 else "restval" if place < 113_287 else "val" if place < 118_287 else "test"
        folder = "train2014" if split == "train" else "val2014"
        sentences = [
            {"tokens": words, "raw": " ".join(words) + ".", "imgid": number, "sentid": 5 * number + turn}
            for turn in range(5)
            for words in [[WORDS[(number + turn + step) % len(WORDS)] for step in range(11)]]
        ]
        yield {
            "filepath": folder, "sentids": [5 * number + turn for turn in range(5)],
            "filename": f"COCO_{folder}_{number:012d}.jpg", "imgid": number, "split": split,
            "sentences": sentences, "cocoid": number,
        }  # fmt: skip


if __name__ == "__main__":
    run_command(main, Settings)
