"""COCO's own captions_*.json, and what from_karpathy says of files that it does not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_prep.from_karpathy import Settings, main
from semcore.data.dataset import SPLITS, load_dataset, read_json, read_jsonl
from semcore.runtime.errors import UserError


def source(folder: Path, images: list[Any], annotations: list[Any], **others: Any) -> Path:
    (folder / "coco" / "val2017").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (8, 8), (50 * number, 0, 0)).save(folder / "coco" / "val2017" / f"{number}.png")
    path = folder / "captions_val2017.json"
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": annotations, **others}))
    return path


def images(count: int) -> list[Any]:
    return [{"id": number, "file_name": f"{number}.png"} for number in range(count)]


def captions(count: int) -> list[Any]:
    """Two sentences an image, those of an image apart from each other."""
    return [{"image_id": n % count, "id": n, "caption": f"a {n}"} for n in range(2 * count)]


@pytest.mark.parametrize("below", ["coco", "coco/val2017"])
@pytest.mark.parametrize("order", [("images", "annotations"), ("annotations", "images")])
def test_sentences_find_their_images(tmp_path: Path, below: str, order: tuple[str, str], capsys: Any) -> None:
    path = source(tmp_path, images(4), captions(4))
    document = json.loads(path.read_text())
    path.write_text(json.dumps({key: document[key] for key in order}), encoding="utf-8-sig")
    main(Settings(path, tmp_path / below, tmp_path / "data", val_fraction=0.25, test_fraction=0.25))
    dataset = load_dataset(tmp_path / "data")
    assert [[(s.sentence_id, s.text) for s in image.sentences] for image in dataset.images] == [
        [(str(n), f"a {n}"), (str(n + 4), f"a {n + 4}")] for n in range(4)
    ]
    assert [len(dataset.split(name)) for name in SPLITS] == [2, 1, 1]
    assert "drawn by lot" in capsys.readouterr().out


def test_bad_entries_are_counted_and_left_out(tmp_path: Path, capsys: Any) -> None:
    bad_images = [{"id": 0, "file_name": "1.png"}, {"id": 9}, {"id": 8, "file_name": "/etc/passwd"}]
    bad_captions = [{"image_id": 77, "caption": "x"}, {"image_id": 1, "caption": None}, {"caption": "x"}, None,
                    {"image_id": 1, "caption": 3}, {"image_id": 1, "caption": "half \ud83d"}]  # fmt: skip
    path = source(tmp_path, images(4) + bad_images, captions(4) + bad_captions)
    main(Settings(path, tmp_path / "coco", tmp_path / "data"))
    assert sum(len(image.sentences) for image in load_dataset(tmp_path / "data").images) == 9
    kinds = [row["kind"] for row in read_jsonl(tmp_path / "data" / "skipped.jsonl")]
    assert sorted(kinds) == [
        "leads_out",
        "malformed",
        "no_image",
        "no_image",
        "no_image",
        "no_image",
        "null_sentence",
        "repeated",
    ]
    assert "left out 7 of 21 rows" in capsys.readouterr().out


def test_annotations_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = source(tmp_path, images(4), [{"image_id": 0, "bbox": [0, 0, 1, 1]}])
    with pytest.raises(UserError, match=r"captions_\*\.json.*--json"):
        main(Settings(path, tmp_path / "coco", tmp_path / "data"))


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("results.token", "1.jpg#0\tA dog .\n", "data_prep.from_csv --csv"),
        ("captions.txt", "image,caption\n1.jpg,A dog .\n", "data_prep.from_csv --csv"),
        ("captions.csv", "image,caption\n1.jpg,A dog .\n", "data_prep.from_csv --csv"),
        ("train.parquet", "PAR1", "data_prep.from_hub --files"),
        ("captions.jsonl", '{"image": "1.jpg"}\n', "data_prep.from_imagefolder --images"),
    ],
)
def test_other_files_are_named_with_their_command(tmp_path: Path, name: str, content: str, command: str) -> None:
    path = tmp_path / "my captions" / name
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(UserError) as error:
        main(Settings(path, tmp_path, tmp_path / "data"))
    assert f"python -m {command} " in str(error.value)
    assert f"'{path}'" in str(error.value) or command.endswith("--images")


def test_the_shared_cases(shared_cases: Path, tmp_path: Path, capsys: Any) -> None:
    folder = shared_cases / "09_coco"
    main(Settings(folder / "captions_val2017.json", folder, tmp_path / "coco"))
    dataset = load_dataset(tmp_path / "coco")
    assert (len(dataset.images), sum(len(image.sentences) for image in dataset.images)) == (12, 60)
    folder = shared_cases / "08_names"
    main(Settings(folder / "captions.json", folder / "photos", tmp_path / "names"))
    dataset = load_dataset(tmp_path / "names")
    entries = json.loads((folder / "captions.json").read_text())["images"]
    assert [image.source_file for image in dataset.images] == [entry["filename"] for entry in entries]
    assert read_json(tmp_path / "names" / "dataset.json")["skipped"] == {}
    assert "left out 0 of 12 images" in capsys.readouterr().out
