"""Fixtures for all tests: a few pictures made on the spot, and commands run as a user runs them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

# A thread a process, as in those that tests start: several of tests share the cores. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.collection", "tests.model_fixtures", "tests.run_fixtures", "tests.growing_runs"]

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
SHARED_CASES = SHARED_DATA.parent / "cases"
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SPLITS = ("train", "train", "restval", "val", "test", "test")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test, and the fixtures that it is the first to need, from the same random numbers."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@dataclass(frozen=True)
class KarpathySource:
    """A caption file in the Karpathy layout and its folder of images."""

    json: Path
    images: Path


@pytest.fixture
def karpathy_source(tmp_path: Path) -> KarpathySource:
    """Six images (3 train with restval, 1 val, 2 test) named as MSCOCO names them, two sentences each."""
    folder = tmp_path / "karpathy"
    (folder / "images" / "val2014").mkdir(parents=True)
    entries = []
    for number, (colour, split) in enumerate(zip(COLOURS, SPLITS, strict=True)):
        filename = f"COCO_val2014_{number:012d}.jpg"
        draw_picture(colour, number).save(folder / "images" / "val2014" / filename)
        texts = (f"A {colour} circle on white.", f"Circle number {number}, {colour}.")
        sentences = [
            {"raw": text, "tokens": text.split(), "imgid": number, "sentid": 100 + 2 * number + place}
            for place, text in enumerate(texts)
        ]
        entries.append(
            {"filepath": "val2014", "filename": filename, "imgid": number, "split": split, "sentences": sentences}
        )
    captions = folder / "dataset_tiny.json"
    captions.write_text(json.dumps({"dataset": "tiny", "images": entries}))
    return KarpathySource(captions, folder / "images")


@pytest.fixture
def tiny_dataset(tmp_path: Path) -> Path:
    """A dataset folder: 6 images (3 train, 1 val, 2 test) of a coloured circle, two sentences each."""
    folder = tmp_path / "tiny_dataset"
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, (colour, split) in enumerate(zip(COLOURS, SPLITS, strict=True)):
        image_id = f"tiny-{number}"
        draw_picture(colour, number).save(folder / "images" / f"{image_id}.png")
        texts = (f"a {colour} circle on white", f"circle number {number}, {colour}")
        rows.append(
            {
                "file_name": f"images/{image_id}.png",
                "image_id": image_id,
                "split": "train" if split == "restval" else split,
                "sentences": [{"sentence_id": f"{image_id}-{n}", "text": text} for n, text in enumerate(texts)],
                "source_file": f"{colour}.png",
            }
        )
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "dataset.json").write_text(json.dumps({"name": "tiny"}))
    return folder


@pytest.fixture
def shared_data() -> Path:
    """The folder of real photographs and captions; tests that need it are skipped without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real photographs are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """The folder of small inputs that once failed; tests that need it are skipped without it."""
    if not SHARED_CASES.is_dir():
        pytest.skip(f"the cases are not at {SHARED_CASES}")
    return SHARED_CASES


@pytest.fixture
def run_module() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m MODULE ARGUMENTS`, offline and on one thread."""

    def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def warm_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the commands of a pipeline in forks of a process that has done their imports."""
    from semcore.runtime import subprocesses
    from tests.recipes.warm_python import warm_python

    plain = subprocesses._executable
    monkeypatch.setattr(subprocesses, "_executable", lambda command: [str(warm_python()), *plain(command)[1:]])


@pytest.fixture
def semcore(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `semcore ARGUMENTS` in this process and return its exit code, output and errors."""

    from semcore.commands import cli

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["semcore", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as left:
            code = int(left.code or 0)
        return code, *capsys.readouterr()

    return run


def draw_picture(colour: str, number: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Draw a circle on white; `number` moves it, so that no two pictures are equal."""
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).ellipse((number, number, number + 24, number + 24), fill=colour)
    return picture
