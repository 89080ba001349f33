"""The made-up source has the real layout, and its import is measured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.importing import Cost, cost_of, entries, make_source, measured_import, rows
from data_prep.from_karpathy import PUBLISHED
from semcore.data.dataset import load_dataset


def test_the_synthetic_dataset_has_the_splits_of_coco() -> None:
    splits = Counter(entry["split"] for entry in entries(2_000))
    assert splits == {"train": 1343, "restval": 495, "val": 81, "test": 81}
    whole = Counter(entry["split"] for entry in entries(123_287))
    assert (whole["train"] + whole["restval"], whole["val"], whole["test"]) == PUBLISHED["coco"]


def test_a_small_one_is_imported_and_measured(tmp_path: Path) -> None:
    cost = measured_import(make_source(tmp_path / "source", 120), tmp_path / "data")
    dataset = load_dataset(tmp_path / "data")
    assert sum(len(image.sentences) for image in dataset.images) == 600
    assert {image.source_file[:9] for image in dataset.images} == {"COCO_trai", "COCO_val2"}
    assert cost.seconds > 0 and cost.cpu_seconds > 0
    assert cost.peak_bytes > 10_000_000


def test_peak_memory_is_the_commands_own() -> None:
    cost = cost_of(["python3", "-c", "large = bytearray(300_000_000)"])
    assert 300_000_000 < cost.peak_bytes < 400_000_000


def test_rows_compare_peak_memories() -> None:
    time, memory, small = rows(100, Cost(2.0, 100, 3.0), Cost(1.0, 400, 1.0), Cost(1.0, 80, 1.0))
    assert (time.ours, time.peer, time.note) == (2.0, None, "50 images/s; 3 s of computing")
    assert (memory.ours, memory.peer, memory.ratio) == (100, 400, 4.0)
    assert memory.note == "1.25 times that of a tenth of the images"
    assert small.ours == 80
