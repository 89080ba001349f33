from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from data_prep.make_scenes import Settings, draw_dataset, main
from data_prep.scenes.scene_graph import pool_of
from semcore.data.dataset import SPLITS, is_safe_id, load_dataset, open_image, read_json, read_jsonl
from semcore.runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"train": 30, "val": 8, "test": 12}


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "scenes"
    main(Settings(out, **SMALL))
    return out


def test_the_folder_holds_scenes_sentences_and_the_ceiling(scenes: Path) -> None:
    dataset = load_dataset(scenes)
    assert {split: len(dataset.split(split)) for split in SPLITS} == SMALL
    assert [image.image_id for image in dataset.images] == [f"scene-{n:06d}" for n in range(50)]
    assert all(is_safe_id(image.image_id) for image in dataset.images)
    assert {len({s.text for s in image.sentences}) for image in dataset.images} == {5}
    assert open_image(dataset.image_path(dataset.images[0])).size == (64, 64)
    assert read_json(scenes / "dataset.json")["licence"] == "CC0"
    ceiling = read_json(scenes / "ceiling.json")
    assert set(ceiling) == {"val", "test"}
    for directions in ceiling.values():
        for scores in (directions["t2i"], directions["i2t"]):
            assert 40 < scores["R@1"] <= scores["R@5"] <= scores["R@10"] <= 100.0001


def test_scene_rows_belong_to_their_images(scenes: Path) -> None:
    rows = list(read_jsonl(scenes / "scenes.jsonl"))
    images = load_dataset(scenes).images
    assert [row["image_id"] for row in rows] == [image.image_id for image in images]
    for row, image in zip(rows, images, strict=True):
        assert len(row["readings"]) == len(image.sentences)
        assert set(row["scene"]) == {"objects", "background"}
        for reading, sentence in zip(row["readings"], image.sentences, strict=True):
            assert all(shape_said(mention["shape"], sentence.text) for mention in reading["mentions"])


def shape_said(shape: str, text: str) -> bool:
    words = {"circle": "disc", "cross": "plus sign", "ring": "hoop", "moon": "crescent"}
    return shape in text or words.get(shape, shape) in text


def test_ids_say_nothing_of_splits(scenes: Path) -> None:
    splits = [image.split for image in load_dataset(scenes).images]
    assert splits != sorted(splits, key=SPLITS.index)
    assert "test" in splits[:25]
    assert "train" in splits[25:]


def test_no_scene_is_drawn_twice_and_none_the_base_checkpoint_may_have_seen() -> None:
    drawn = draw_dataset({"train": 400, "val": 50, "test": 100}, seed=3)
    assert len({item.scene for item in drawn}) == 550
    assert {pool_of(item.scene) for item in drawn} == {"datasets"}


def test_the_same_seed_draws_the_same_bytes_in_another_process(
    scenes: Path, tmp_path: Path, run_module: Callable[..., CompletedProcess[str]]
) -> None:
    counts = [part for split, count in SMALL.items() for part in (f"--{split}", count)]
    done = run_module("data_prep.make_scenes", "--out", tmp_path / "again", *counts, "--seed", 0)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "again") == content(scenes)
    assert done.stdout.splitlines()[-1] == f"next: python -m data_prep.check {tmp_path / 'again'}"
    assert "ceiling test: R@1 " in done.stdout


def test_another_seed_draws_other_scenes(scenes: Path) -> None:
    other = draw_dataset(SMALL, seed=1)
    rows = {str(row["scene"]) for row in read_jsonl(scenes / "scenes.jsonl")}
    assert not rows & {str(item.scene.as_dict()) for item in other}


def test_a_limit_is_shared_out_over_the_splits() -> None:
    drawn = draw_dataset(SMALL, seed=0, limit=10)
    assert {split: sum(item.split == split for item in drawn) for split in SPLITS} == {"train": 6, "val": 2, "test": 2}


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ({"train": -1}, "--train.* 0.* -1$"),
        ({"train": 0, "val": 0, "test": 0}, "--train, --val and --test are all 0; ask for at least one scene"),
        ({"limit": 0}, "--limit.* 1.* 0$"),
    ],
)
def test_wrong_counts_are_one_sentence(tmp_path: Path, counts: dict[str, int], found: str) -> None:
    with pytest.raises(UserError, match=f"^{found}"):
        Settings(tmp_path / "data", **counts)


def start_drawing(out: Path, num_train: int) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "data_prep.make_scenes",
        "--out",
        out,
        "--train",
        num_train,
        "--val",
        0,
        "--test",
        0,
    ]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ}
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


def test_a_kill_leaves_no_half_dataset_and_the_next_run_is_as_if_nothing_was(tmp_path: Path) -> None:
    out = tmp_path / "data"
    killed = start_drawing(out, 400)
    wait_for(tmp_path / ".data.unfinished" / "images" / "scene-000003.png")
    killed.send_signal(signal.SIGSTOP)
    busy = start_drawing(out, 400)
    assert busy.wait(timeout=300) == 2
    assert busy.stderr is not None
    assert busy.stderr.read() == (
        f"error: another process is making {out}; wait until it is done, or choose another --out\n"
    )
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not out.exists()
    (tmp_path / ".data.unfinished" / "images" / "leftover.png").write_bytes(b"")
    main(Settings(out, train=400, val=0, test=0))
    main(Settings(tmp_path / "uninterrupted", train=400, val=0, test=0))
    assert content(out) == content(tmp_path / "uninterrupted")
    assert not (tmp_path / ".data.unfinished").exists()
