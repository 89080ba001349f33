"""The command `semcore index`: a corpus that changes, as a user changes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semcore.data.run_folder import RunFolder
from semcore.runtime.files import read_jsonl, write_jsonl
from tests.growing_runs import draw
from tests.run_fixtures import SearchableRun


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two pictures and a broken one, with the captions of all."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    draw(folder / "one.png", 1)
    draw(folder / "deep" / "two.png", 2)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    captions = {"one": "a red ring", "deep-two": "a red disc", "broken": "nothing"}
    write_jsonl(
        folder / "captions.jsonl", ({"image_id": image_id, "caption": text} for image_id, text in captions.items())
    )
    return folder


def test_a_folder_is_added_counted_and_removed(growing_run: SearchableRun, pictures: Path, semcore: Any) -> None:
    run = str(growing_run.run)
    add = ("index", "add", "--run", run, "--images", str(pictures), "--captions", str(pictures / "captions.jsonl"))
    code, out, _ = semcore(*add, "--images-a-change", "2", "--device", "cpu")
    assert code == 0
    assert out.splitlines() == [
        "index: left out broken: not a picture in a known format",
        "index: added 2 images and 0 sentences; 0 images were there already, 1 are left out",
        f"index: searched now: 24 images, {_num_sentences(growing_run)} sentences",
    ]
    code, out, _ = semcore(*add, "--device", "cpu")
    assert "added 0 images and 0 sentences; 2 images were there already, 1 are left out" in out
    (growing_run.run / "ids.txt").write_text("one\n\n")
    code, out, _ = semcore(
        "index", "remove", "--run", run, "--ids", "deep-two", "--ids-file", f"{run}/ids.txt", "--device", "cpu"
    )
    assert code == 0 and out.startswith("index: removed 2 items")
    code, out, _ = semcore("index", "remove", "--run", run, "--ids", "one,deep-two", "--device", "cpu")
    assert code == 0 and out.startswith("index: nothing to do: these 2 items were removed before")
    code, out, _ = semcore("index", "stats", "--run", run, "--json")
    stats = json.loads(out)
    assert stats["num_changes"] == 3
    assert {key: stats["t2i"][key] for key in ("num_items", "num_added", "num_removed")} == {
        "num_items": 22, "num_added": 0, "num_removed": 0,
    }  # fmt: skip
    assert stats["t2i"]["index_bytes"] > 0 and stats["i2t"]["index_bytes"] is None
    code, out, _ = semcore("index", "stats", "--run", run)
    assert "3 changes since the identifiers were made" in out and "not made yet" in out


def test_a_dataset_folder_comes_with_its_sentences(growing_run: SearchableRun, tmp_path: Path, semcore: Any) -> None:
    data = tmp_path / "more"
    (data / "images").mkdir(parents=True)
    draw(data / "images" / "fish.png", 5)
    said = [{"sentence_id": "said", "text": "a fish"}]
    row = {"image_id": "fish", "file_name": "images/fish.png", "split": "val", "sentences": said}
    write_jsonl(data / "metadata.jsonl", [row])
    write_jsonl(tmp_path / "captions.jsonl", [{"image_id": "fish", "caption": "a red fish"}])
    given = ("--images", str(data), "--captions", str(tmp_path / "captions.jsonl"), "--device", "cpu")
    code, out, _ = semcore("index", "add", "--run", str(growing_run.run), *given)
    assert code == 0 and "added 1 images and 1 sentences" in out
    [change] = read_jsonl(growing_run.run / "corpus" / "changes.jsonl")
    assert change["added"][0]["sentence_rows"][0]["item_id"] == "said"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("add",), "index add needs the images: --images FOLDER"),
        (("remove",), "index remove needs the ids of images or sentences: --ids A,B or --ids-file FILE"),
        (("grow",), "index takes add, remove or stats, found 'grow'"),
        (("remove", "--ids", ","), "there is no id in --ids; give one a line, or with commas between"),
        (
            ("add", "--images", "TMP/none"),
            "there is no folder TMP/none; give --images a folder of pictures, or a dataset folder",
        ),
        (
            ("add", "--images", "TMP/empty"),
            "there is no picture in TMP/empty; give --images a folder of pictures, or a dataset folder",
        ),
        (
            ("add", "--images", "TMP/pictures", "--captions", "TMP/others.jsonl"),
            "TMP/others.jsonl captions 'who', and TMP/pictures has no such image; give it the image's id",
        ),
        (("remove", "--ids", "nobody"), "'nobody' is no item of RUN's corpus; nothing was removed"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    growing_run: SearchableRun, pictures: Path, tmp_path: Path, semcore: Any, arguments: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    write_jsonl(tmp_path / "others.jsonl", [{"image_id": "who", "caption": "a dog"}])
    given = [word.replace("TMP", str(tmp_path)) for word in arguments]
    code, _, errors = semcore("index", *given, "--run", str(growing_run.run))
    assert code == 2
    expected = sentence.replace("TMP", str(tmp_path)).replace("RUN", str(growing_run.run))
    assert errors == f"error: {expected}\n"
    assert not (RunFolder(growing_run.run) / "corpus").exists()


def test_a_run_without_a_model_cannot_grow(growing_run: SearchableRun, pictures: Path, semcore: Any) -> None:
    (growing_run.run / "identifier_model" / "config.json").unlink()
    code, _, errors = semcore("index", "add", "--run", str(growing_run.run), "--images", str(pictures))
    assert code == 2 and errors.startswith(f"error: there is no model in {growing_run.run / 'identifier_model'}; train")


def _num_sentences(run: SearchableRun) -> int:
    return sum(1 for _ in read_jsonl(run.run / "identifiers" / "i2t.jsonl"))
