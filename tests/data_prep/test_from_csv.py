from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from PIL import Image

from data_prep.from_csv import Settings, main
from semcore.dataset import SPLITS, Dataset, load_dataset, read_json
from semcore.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "deep/c.png")):
        Image.new("RGB", (8, 8), (80 * number, 0, 0)).save(folder / name)
    return folder


def imported(table: str, photos: Path, name: str = "table.csv", **settings: Any) -> Dataset:
    path = photos.parent / name
    path.write_text(table, encoding="utf-8")
    main(Settings(path, photos, photos.parent / "data", **settings))
    return load_dataset(photos.parent / "data")


def refusal(table: str, photos: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        imported(table, photos, **settings)
    assert not (photos.parent / "data").exists()
    return str(error.value).replace(f"{photos.parent}/", "")


def test_a_row_is_a_sentence_and_a_column_may_say_the_split(photos: Path) -> None:
    table = 'split,image,sentence\ntrain,a.png,"one, two"\ntrain,a.png,three\ndev,b.png,four\ntest,deep/c.png,""\n'
    dataset = imported(table + 'test,deep/c.png,"five\nlines"\n', photos)
    assert {image.image_id: (image.split, [s.text for s in image.sentences]) for image in dataset.images} == {
        "a": ("train", ["one, two", "three"]),
        "b": ("val", ["four"]),
        "deep-c": ("test", ["five lines"]),
    }
    assert read_json(dataset.folder / "dataset.json")["skipped"] == {"empty_sentence": 1}


def test_rows_of_an_image_may_lie_apart(photos: Path) -> None:
    dataset = imported("image,sentence\na.png,one\nb.png,two\na.png,three\n", photos)
    assert [[s.text for s in image.sentences] for image in dataset.images] == [["one", "three"], ["two"]]


def test_other_separators_and_names(photos: Path) -> None:
    """As in Flickr30K's results.csv: bars with spaces around them, and a byte order mark."""
    table = "\ufeffimage_name| comment_number| comment\na.png| 0| A dog , on grass .\nb.png| 0| A cat .\n"
    names = {"image_column": "image_name", "sentence_column": "comment", "separator": "|"}
    dataset = imported(table, photos, **names)
    assert [image.sentences[0].text for image in dataset.images] == ["A dog , on grass .", "A cat ."]
    (photos.parent / "data").rename(photos.parent / "before")
    assert len(imported("image\tsentence\na.png\tx\n", photos, "table.tsv").images) == 1


def test_splits_are_drawn_by_lot_where_no_column_says_them(photos: Path) -> None:
    table = "image,sentence\na.png,x\nb.png,y\ndeep/c.png,z\n"
    dataset = imported(table, photos, val_share=1 / 3, test_share=1 / 3)
    assert [len(dataset.split(name)) for name in SPLITS] == [1, 1, 1]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("", "table.csv has no column 'image'; it has none: choose one with --image-column, or another --separator"),
        (
            "file,text\na.png,x\n",
            "table.csv has no column 'image'; it has 'file', 'text': choose one with --image-column, "
            "or another --separator",
        ),
        ("image,sentence\n", "table.csv holds no rows"),
        ("image,sentence\na.png,x\na.png,x,y\n", "table.csv, line 3: has 3 columns, the first line has 2"),
        (
            "image,sentence\n../a.png,x\n",
            "table.csv, line 2: has the image '../a.png', which is no file in photos",
        ),
        (
            "image,sentence\n/etc/passwd,x\n",
            "table.csv, line 2: has the image '/etc/passwd', which is no file in photos",
        ),
        ("image,sentence\n,x\n", "table.csv, line 2: has the image '', which is no file in photos"),
        (
            "image,sentence,split\na.png,x,train\na.png,x,test\n",
            "table.csv, line 3: puts a.png into test, before it was train",
        ),
        (
            "image,sentence,split\na.png,x,mine\n",
            "table.csv, line 2: has the split 'mine'; there are train, training, restval, val, valid, validation, "
            "dev, test, testing",
        ),
        (
            "image,sentence\nx.png,x\nb.png,y\n",
            "1 of the 2 images of table.csv and the images of photos are missing, the first: x.png; "
            "put them there, or leave them out with --skip-missing",
        ),
        ('image,sentence\na.png,"' + "x" * (1 << 21), "table.csv, line 2: field larger than field limit (1048576)"),
    ],
)
def test_wrong_tables_are_one_sentence(photos: Path, table: str, sentence: str) -> None:
    assert refusal(table, photos) == sentence


def test_tables_that_are_no_text(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"image,sentence\na.png,caf\xe9\n")
    with pytest.raises(UserError, match=r"latin\.csv is not UTF-8 text; save it as UTF-8$"):
        main(Settings(tmp_path / "latin.csv", photos, tmp_path / "data"))
    with pytest.raises(UserError, match=r"^there is no file nowhere\.csv; check --csv$"):
        main(Settings(Path("nowhere.csv"), photos, tmp_path / "data"))
    with pytest.raises(UserError, match=r"^--separator takes one character, found '::'$"):
        Settings(tmp_path / "a.csv", photos, tmp_path / "data", separator="::")


def test_the_command_is_done_once(photos: Path, run_module: Callable[..., CompletedProcess[str]]) -> None:
    table, out = photos.parent / "table.csv", photos.parent / "data"
    table.write_text("image,sentence\na.png,x\ngone.png,y\n")
    arguments = ("--csv", table, "--images", photos, "--out", out, "--skip-missing")
    first = run_module("data_prep.from_csv", *arguments)
    assert (first.returncode, first.stdout.splitlines()[1]) == (0, f"{out}: 1 images, 1 sentences")
    assert "skipped: 1 missing images; listed in" in first.stdout
    assert f"{out} is already made" in run_module("data_prep.from_csv", *arguments).stdout


def test_the_real_photographs_are_imported(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "coco_cc_photos"
    entries = json.loads((source / "dataset_coco_cc_photos.json").read_text())["images"]
    with (tmp_path / "captions.csv").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["image", "sentence", "split"])
        for entry in entries:
            table.writerows([entry["filename"], said["raw"], entry["split"]] for said in entry["sentences"])
    main(Settings(tmp_path / "captions.csv", source / "images", tmp_path / "data"))
    dataset = load_dataset(tmp_path / "data")
    assert [len(dataset.split(name)) for name in SPLITS] == [21, 5, 25]
    assert [s.text for s in dataset.images[0].sentences] == [
        " ".join(said["raw"].split()) for said in entries[0]["sentences"]
    ]
