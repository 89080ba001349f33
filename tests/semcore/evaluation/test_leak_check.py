"""Leak check: shared files and sentences, and what is known of a backbone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from semcore.data.dataset import load_dataset
from semcore.data.run_folder import RunFolder
from semcore.evaluation.leak_check import backbone_of, check_leaks
from semcore.runtime.files import write_json
from semcore.runtime.packaged_files import asset_folder


def test_what_stands_in_train_too_is_counted(tiny_dataset: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (tiny_dataset / "metadata.jsonl").read_text().splitlines()]
    test = [row for row in rows if row["split"] == "test"]
    shutil.copy(tiny_dataset / rows[0]["file_name"], tiny_dataset / test[0]["file_name"])
    test[1]["sentences"][0]["text"] = "  a red\u200b circle  on white"  # as under the first picture, but for blanks
    (tiny_dataset / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    check = check_leaks(RunFolder(tmp_path / "run"), load_dataset(tiny_dataset), "test", "transductive")
    assert (check["num_images"], check["num_shared_images"]) == (2, 1)
    assert (check["num_sentences"], check["num_shared_sentences"]) == (4, 1)
    assert (check["protocol"], check["backbones"]) == ("transductive", [])
    (tiny_dataset / test[0]["file_name"]).unlink()
    assert check_leaks(RunFolder(tmp_path / "run"), load_dataset(tiny_dataset), "test", "")["num_shared_images"] == 0
    assert check_leaks(RunFolder(tmp_path / "run"), load_dataset(tiny_dataset), "train", "")["num_shared_images"] == 0


@pytest.mark.parametrize(
    ("model", "dataset", "answer"),
    [
        (str(asset_folder("scenes_base")), "scenes-seed0", "no"),
        (str(asset_folder("scenes_base")), "flickr30k", "no"),
        ("OpenGVLab/InternVL3-1B-hf", "coco", "yes"),
        ("OpenGVLab/InternVL3-1B-hf", "flickr30k", "unknown"),
        ("someone/else", "coco", "unknown"),
    ],
)
def test_a_backbone_is_known_or_unknown(model: str, dataset: str, answer: str) -> None:
    assert backbone_of(model, dataset).answer == answer


def test_the_models_are_those_that_a_run_started_from(tiny_dataset: Path, tmp_path: Path) -> None:
    stages = {
        "caption": {"settings": {"model": "one/model"}},
        "train_identifier": {"settings": {"model": {"base": "/gone/InternVL3-1B-hf"}}},
        "train_verifier": {"settings": {"model": {"base": None, "start": "identifier"}}},
    }
    write_json(tmp_path / "run" / "manifest.json", {"stages": stages})
    check = check_leaks(RunFolder(tmp_path / "run"), load_dataset(tiny_dataset), "test", "inductive")
    assert [own["model"] for own in check["backbones"]] == ["one/model", "InternVL3-1B-hf"]
