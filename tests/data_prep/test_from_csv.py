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
from semcore.data.dataset import SPLITS, Dataset, load_dataset, read_json, read_jsonl
from semcore.runtime.errors import UserError


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
    dataset = imported(table, photos, val_fraction=1 / 3, test_fraction=1 / 3)
    assert [len(dataset.split(name)) for name in SPLITS] == [1, 1, 1]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", ("table.csv is empty",)),
        ("file,words\na.png,x\n", ("no column 'sentence'", "'words'", "--sentence-column")),
        ("name,text\na.png,x\n", ("no column 'image'", "'name'", "--image-column", "--separator")),
        ("image,sentence\n", ("table.csv holds no rows",)),
        ("image,sentence,split\na.png,x,mine\n", ("none of the 1 rows", "line 2", "'mine'", "restval")),
        ("image,sentence\nx.png,x\nb.png,y\n", ("1 of the 2 images", "x.png", "--skip-missing")),
        ("image,sentence\nB.png,x\nA.PNG,y\n", ("B.png (there is b.png)", "A.PNG (there is a.png)")),
        ("image,sentence\na.jpg,x\n", ("a.jpg (there is a.png)",)),
    ],
)
def test_wrong_tables_are_one_sentence(photos: Path, table: str, words: tuple[str, ...]) -> None:
    said = refusal(table, photos)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("a.png", "cells"),
        ("a.png,x,y,z", "cells"),
        ("../a.png,x,train", "leads_out"),
        ("/etc/passwd,x,train", "leads_out"),
        (",x,train", "no_image"),
        ("a.png,x,mine", "split"),
        ("a.png,x,", "split"),
        ("a.png,x,test", "split"),
        ("a.png,,train", "empty_sentence"),
        ("a.png,NaN,train", "null_sentence"),
        ("a.png,[],train", "null_sentence"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_bad_row_is_counted_listed_and_left_out(photos: Path, row: str, kind: str, end: str, capsys: Any) -> None:
    table = end.join(["image,sentence,split", "a.png,one,train", row, "b.png,two,test", ""])
    dataset = imported(table, photos)
    assert [[s.text for s in image.sentences] for image in dataset.images] == [["one"], ["two"]]
    assert read_json(dataset.folder / "dataset.json")["skipped"] == {kind: 1}
    (entry,) = read_jsonl(dataset.folder / "skipped.jsonl")
    *_, last, _ = capsys.readouterr().out.splitlines()
    if "sentence" in kind:
        assert last.startswith("left out 1 of 3 sentences")
    else:
        assert entry["file"] == "line 3" and last.startswith("left out 1 of 3 rows")


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize(
    ("cells", "texts", "open_rows"),
    [
        (['"one{s} two"', '"a ""b"" c"', '"two\nlines"'], ["one{s} two", 'a "b" c', "two lines"], 0),
        (['"Stop says the sign', "x", 'the word "go'], ['"Stop says the sign', "x", 'the word "go'], 1),
        (['"Stop says the sign', "x", 'it says "go"'], ['"Stop says the sign', "x", 'it says "go"'], 1),
        (['"Stop says the sign', "x", '"go"'], ['"Stop says the sign', "x", "go"], 1),
        (['"Stop" says the sign', 'a 12" disc', '"'], ['"Stop" says the sign', 'a 12" disc', '"'], 2),
        (["'one", "it's", "x'"], ["'one", "it's", "x'"], 0),
    ],
)
def test_quotes_swallow_nothing(
    photos: Path, separator: str, cells: list[str], texts: list[str], open_rows: int, capsys: Any
) -> None:
    rows = [separator.join(row) for row in zip(("a.png", "b.png", "deep/c.png"), cells, "012", strict=True)]
    table = "\n".join([separator.join(("image", "sentence", "n")), *rows, ""]).replace("{s}", separator)
    dataset = imported(table, photos)
    expected = [text.replace("{s}", separator) for text in texts]
    assert [image.sentences[0].text for image in dataset.images] == [" ".join(text.split()) for text in expected]
    noted = f"note: {open_rows} rows of table.csv have a quote that is not closed"
    assert (noted in capsys.readouterr().out) == bool(open_rows)


def test_other_quotes(photos: Path) -> None:
    table = "image,sentence\na.png,'one, two'\nb.png,\"x\"\n"
    assert [image.sentences[0].text for image in imported(table, photos, quote="'").images] == ["one, two", '"x"']
    (photos.parent / "data").rename(photos.parent / "before")
    table = 'image,sentence\na.png,"one"\n'
    assert [image.sentences[0].text for image in imported(table, photos, quote="none").images] == ['"one"']


@pytest.mark.parametrize(
    "cell",
    [
        json.dumps(["a dog, brown", "it's"]),
        str(["a dog, brown", "it's"]),
        """['a dog, brown'\n "it's"]""",  # as numpy prints it
        json.dumps([{"raw": "a dog, brown"}, {"raw": "it's"}]),
        json.dumps({"raw": ["a dog, brown", "it's"]}),
        json.dumps([["a dog, brown"], ["it's"]]),
    ],
)
def test_a_list_in_a_cell_is_its_sentences(photos: Path, cell: str) -> None:
    quoted = cell.replace('"', '""')
    (image,) = imported(f'image,captions\na.png,"{quoted}"\n', photos).images
    assert [s.text for s in image.sentences] == ["a dog, brown", "it's"]


def test_brackets_that_are_no_list_stay(photos: Path) -> None:
    (image,) = imported("image,caption\na.png,[a dog]\na.png,[1] a cat [2]\n", photos).images
    assert [s.text for s in image.sentences] == ["[a dog]", "[1] a cat [2]"]


def test_token_files(photos: Path) -> None:
    table = 'a.png#0\tA "dog , on grass .\r\na.png#1\tA cat\t.\r\nbroken line\r\nb.png#0\t\r\nb.png#1\ttwo\r\n'
    dataset = imported(table, photos, "results.token")
    assert [[s.text for s in image.sentences] for image in dataset.images] == [
        ['A "dog , on grass .', "A cat ."],
        ["two"],
    ]
    assert read_json(dataset.folder / "dataset.json")["skipped"] == {"cells": 1, "empty_sentence": 1}


def test_names_of_images_in_another_spelling(photos: Path) -> None:
    for name in ("cafe\u0301.png", "100% #1 'x' 🐶.png"):
        Image.new("RGB", (8, 8)).save(photos / name)
    names = ("caf\u00e9.png", "cafe\u0301.png", "100% #1 'x' 🐶.png", "deep\\c.png", "a.png#3")
    rows = zip(names, ("one", "two", "three", "four", "five"), strict=True)
    table = "image,caption\n" + "".join(f"{name},{text}\n" for name, text in rows)
    dataset = imported(table, photos)
    assert {image.source_file: [s.text for s in image.sentences] for image in dataset.images} == {
        "cafe\u0301.png": ["one", "two"],
        "100% #1 'x' 🐶.png": ["three"],
        "deep/c.png": ["four"],
        "a.png": ["five"],
    }
    Image.new("RGB", (8, 8)).save(photos / "caf\u00e9.png")  # both spellings are there now, and two images
    (photos.parent / "data").rename(photos.parent / "before")
    assert len(imported(table, photos).images) == 5


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_part_of_a_name(photos: Path, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "wide.csv").write_text('"image";"caption"\na.png;é\n', encoding=encoding)
    main(Settings(tmp_path / "wide.csv", photos, tmp_path / "data"))
    assert load_dataset(tmp_path / "data").images[0].sentences[0].text == "é"


def test_tables_that_are_no_text(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"image,sentence\na.png,caf\xe9\n")
    with pytest.raises(UserError, match=r"latin\.csv.*not UTF-8 text.*iconv"):
        main(Settings(tmp_path / "latin.csv", photos, tmp_path / "data"))
    (tmp_path / "nul.csv").write_bytes(b"image,sentence\na.png,one\0two\nb\0.png,x\n")
    main(Settings(tmp_path / "nul.csv", photos, tmp_path / "nul", skip_missing=True))
    assert [s.text for s in load_dataset(tmp_path / "nul").images[0].sentences] == ["onetwo"]
    with pytest.raises(UserError, match=r"^there is no file nowhere\.csv; check --csv$"):
        main(Settings(Path("nowhere.csv"), photos, tmp_path / "data"))
    with pytest.raises(UserError, match=r"^--separator takes one character, found '::'$"):
        Settings(tmp_path / "a.csv", photos, tmp_path / "data", separator="::")


@pytest.mark.parametrize(
    ("name", "images", "sentences", "left_out"),
    [
        ("good.csv", 12, 60, "0 of 12 images"),
        ("open_quote.csv", 12, 60, "0 of 12 images"),
        ("one_bad_row.csv", 12, 59, "1 of 60 rows"),
        ("json_cells.csv", 12, 60, "0 of 12 images"),
        ("results.token", 12, 60, "0 of 12 images"),
    ],
)
def test_the_shared_cases(
    shared_cases: Path, tmp_path: Path, name: str, images: int, sentences: int, left_out: str, capsys: Any
) -> None:
    folder = shared_cases / "03_tables"
    main(Settings(folder / name, folder / "photos", tmp_path / "data"))
    dataset = load_dataset(tmp_path / "data")
    assert (len(dataset.images), sum(len(image.sentences) for image in dataset.images)) == (images, sentences)
    assert f"left out {left_out}" in capsys.readouterr().out


def test_the_command_is_done_once(photos: Path, run_module: Callable[..., CompletedProcess[str]]) -> None:
    table, out = photos.parent / "table.csv", photos.parent / "data"
    table.write_text("image,sentence\na.png,x\ngone.png,y\n")
    arguments = ("--csv", table, "--images", photos, "--out", out, "--skip-missing")
    first = run_module("data_prep.from_csv", *arguments)
    assert (first.returncode, first.stdout.splitlines()[1]) == (0, f"{out}: 1 images, 1 sentences")
    assert "left out 1 of 2 images: 1 missing images; listed in" in first.stdout
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
