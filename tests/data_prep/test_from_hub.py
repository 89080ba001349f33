from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_prep.from_hub import Settings, files_by_split, main
from data_prep.hub_rows import Columns
from data_prep.left_out import BadRow
from semcore.data.dataset import SPLITS, Dataset, load_dataset, open_image, read_json
from semcore.runtime.errors import UserError

datasets = pytest.importorskip("datasets")
pq = pytest.importorskip("pyarrow.parquet")


def picture(number: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(file, kind)
    return file.getvalue()


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    import pyarrow

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def image_row(number: int, **others: Any) -> dict[str, Any]:
    return {"image": {"bytes": picture(number), "path": f"{number}.png"}, **others}


def texts_of(dataset: Dataset) -> dict[str, tuple[str, list[str]]]:
    return {image.image_id: (image.split, [s.text for s in image.sentences]) for image in dataset.images}


def refusal(out: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        main(Settings(out, **settings))
    assert not out.exists()
    assert not list(out.parent.glob(".*.unfinished"))
    return str(error.value)


def test_parquet_with_a_row_an_image_and_splits_in_the_files_names(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    for name, numbers in (("train-00000", (0, 1)), ("train-00001", (2,)), ("validation-0", (3,)), ("test-0", (4,))):
        write_parquet(shards / f"{name}.parquet", [image_row(n, caption=[f"one {n}", f"two {n}"]) for n in numbers])
    main(Settings(tmp_path / "data", files=str(shards)))
    dataset = load_dataset(tmp_path / "data")
    assert [len(dataset.split(name)) for name in SPLITS] == [3, 1, 1]
    assert [s.text for s in dataset.images[0].sentences] == ["one 0", "two 0"]
    colours = [open_image(dataset.image_path(image)).getpixel((0, 0)) for image in dataset.images]
    assert [colour[0] for colour in colours] == [0, 20, 40, 60, 80]  # type: ignore[index]
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"images", "metadata.jsonl", "dataset.json"}


def test_rows_of_one_image_are_joined_and_a_column_says_the_split(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        image_row(0, filename="a.png", split="restval", sentence={"raw": "one", "tokens": ["one"]}),
        image_row(0, filename="a.png", split="restval", sentence={"raw": "two", "tokens": ["two"]}),
        image_row(1, filename="b.png", split="test", sentence={"raw": "three", "tokens": ["three"]}),
    ]
    write_parquet(tmp_path / "mine.parquet", rows)
    main(Settings(tmp_path / "data", files=str(tmp_path / "*.parquet")))
    assert texts_of(load_dataset(tmp_path / "data")) == {"a": ("train", ["one", "two"]), "b": ("test", ["three"])}
    write_parquet(tmp_path / "mine.parquet", [rows[0], rows[2], rows[1]])
    assert "the rows of image 'a.png' do not follow each other" in refusal(
        tmp_path / "other", files=str(tmp_path / "mine.parquet")
    )


def test_webdataset(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for number in range(3):
            parts = {"jpg": picture(number, "JPEG"), "txt": f"number {number}".encode()}
            parts["json"] = json.dumps({"split": "test" if number == 2 else "train"}).encode()
            for suffix, content in parts.items():
                entry = tarfile.TarInfo(f"{number:03}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    main(Settings(tmp_path / "data", files=str(tmp_path / "train-0.tar")))
    assert texts_of(load_dataset(tmp_path / "data")) == {
        "000": ("train", ["number 0"]),
        "001": ("train", ["number 1"]),
        "002": ("test", ["number 2"]),
    }


def test_a_data_set_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """What the hub gives is given by a stub: the network is not for tests."""
    write_parquet(tmp_path / "rows.parquet", [image_row(n, text=f"number {n}") for n in range(40)])
    asked: dict[str, Any] = {}
    load = datasets.load_dataset

    def hub(**options: Any) -> Any:
        asked.update(options)
        assert "from_hub: downloading someone/photos from the Hugging Face hub" in capsys.readouterr().out
        return load("parquet", data_files={"everything": str(tmp_path / "rows.parquet")}, streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", hub)
    main(Settings(tmp_path / "data", dataset="someone/photos", config="small", revision="v1"))
    assert asked == {"path": "someone/photos", "name": "small", "revision": "v1", "streaming": True}
    dataset = load_dataset(tmp_path / "data")
    assert dataset.name == "someone/photos"
    sizes = [len(dataset.split(name)) for name in SPLITS]
    assert sum(sizes) == 40 and sizes[0] > 20 and min(sizes) > 0  # drawn by lot


def test_a_limit_is_shared_out_over_the_parts_and_the_rest_is_not_read(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    for name, numbers in (("train", range(5)), ("val", range(5, 10)), ("test", range(10, 15))):
        write_parquet(shards / f"{name}.parquet", [image_row(n, text=f"number {n}", id=n) for n in numbers])
    main(Settings(tmp_path / "data", files=str(shards), limit=5, id_column="id"))
    dataset = load_dataset(tmp_path / "data")
    assert [len(dataset.split(name)) for name in SPLITS] == [2, 2, 1]
    rows: list[dict[str, Any]] = [image_row(n, text=f"number {n}", id=n) for n in range(3)]
    write_parquet(tmp_path / "bad.parquet", [*rows, {**rows[0], "id": 3, "image": None}])
    main(Settings(tmp_path / "all", files=str(tmp_path / "bad.parquet")))
    assert read_json(tmp_path / "all" / "dataset.json")["skipped"] == {"no_image": 1}
    main(Settings(tmp_path / "less", files=str(tmp_path / "bad.parquet"), limit=2))
    assert len(load_dataset(tmp_path / "less").images) == 2


def test_bad_rows_have_an_outcome_each(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        image_row(0, text="fine", id="../../etc/passwd"),
        {"image": {"bytes": picture(1)[:40], "path": "x.png"}, "text": "truncated", "id": "b"},
        image_row(2, text="  ", id="c"),
        {"image": {"bytes": b"", "path": "x.png"}, "text": "empty", "id": "d"},
        image_row(3, text="<img> <|im_end|>", id="e"),
    ]
    write_parquet(tmp_path / "rows.parquet", rows)
    main(Settings(tmp_path / "data", files=str(tmp_path / "rows.parquet"), id_column="id"))
    dataset = load_dataset(tmp_path / "data")
    assert [(image.image_id, image.source_file) for image in dataset.images] == [
        ("etc-passwd", "../../etc/passwd"),
        ("e", "e"),
    ]
    about = read_json(tmp_path / "data" / "dataset.json")
    assert about["skipped"] == {"unreadable": 2, "empty_sentence": 1, "no_sentences": 1}
    assert about["cleaned"] == {"special": 1}
    assert not (tmp_path / "data" / "incoming").exists()


def test_wrong_sources_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "data"
    path = tmp_path / "rows.parquet"
    write_parquet(path, [{"picture": picture(0), "words": "x"}])
    said = refusal(out, files=str(path))
    assert said == "no column of images was found among picture, words; name it with --image-column"
    said = refusal(out, files=str(path), image_column="picture")
    assert said == "no column of sentences was found among picture, words; name it with --sentence-column"
    said = refusal(out, files=str(path), image_column="img")
    assert said == "there is no column 'img'; choose --image-column among picture, words"
    main(Settings(tmp_path / "named", files=str(path), image_column="picture", sentence_column="words", val_fraction=0))
    path.write_bytes(path.read_bytes()[:50])
    assert "rows.parquet cannot be" in refusal(out, files=str(path))
    assert "finds no .parquet or .tar file" in refusal(out, files=str(tmp_path / "*.zip"))
    (tmp_path / "a.tar").touch()
    assert "finds both .parquet and .tar files" in refusal(out, files=str(tmp_path))
    with pytest.raises(UserError, match="^give either --dataset NAME or --files PATTERN$"):
        Settings(out)
    monkeypatch.setitem(sys.modules, "datasets", None)
    said = refusal(out, dataset="someone/photos")
    assert said == "from_hub needs the library `datasets`: pip install 'semcore[hub]'"


@pytest.mark.parametrize(
    ("row", "kind", "word"),
    [
        ({"image": "http://a.org/1.jpg", "text": "x"}, "no_image", "http://a.org/1.jpg"),
        ({"image": None, "text": "x"}, "no_image", "null"),
        ({"image": {"bytes": None, "path": "gone.png"}, "text": "x"}, "no_image", "gone.png"),
        ({"image": b"x", "text": None}, "no_sentence", "text is null"),
        ({"image": b"x", "text": float("nan")}, "no_sentence", "text is null"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, Any], kind: str, word: str) -> None:
    columns = Columns([None] * 4)
    columns.read({"image": b"x", "text": "y"}, "row-0")
    with pytest.raises(BadRow, match=word) as error:
        columns.read(row, "row-1")
    assert error.value.kind == kind


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("one", ["one"]),
        (b"one", ["one"]),
        (["one", None], ["one", None]),
        ({"raw": ["one", "two"], "sentid": [1, 2]}, ["one", "two"]),
        ([{"raw": "one"}, {"text": "two"}], ["one", "two"]),
        ('["one", "two"]', ["one", "two"]),
        (3, [3]),
    ],
)
def test_sentences_of_a_row(value: Any, texts: list[Any]) -> None:
    assert Columns([None] * 4).read({"image": b"x", "caption": value}, "row-0").sentences == texts


def test_nulls_of_every_kind_are_counted_and_left_out(tmp_path: Path, capsys: Any) -> None:
    rows: list[dict[str, Any]] = [
        {**image_row(0), "caption": None},  # the first row has no sentence, and the column is there
        image_row(1, caption=["one", None, ""]),
        {"image": None, "caption": ["two"]},
        image_row(2, caption=["three"]),
        image_row(3, caption=[]),
    ]
    write_parquet(tmp_path / "rows.parquet", rows)
    main(Settings(tmp_path / "data", files=str(tmp_path / "rows.parquet")))
    texts = [[s.text for s in image.sentences] for image in load_dataset(tmp_path / "data").images]
    assert texts == [["one"], ["three"]]
    printed = capsys.readouterr().out
    assert "left out 2 of 5 rows: 1 rows without an image, 1 rows without a sentence; listed in" in printed
    assert "left out 1 of 3 images: 1 images without sentences" in printed
    assert "left out 2 of 4 sentences: 1 empty sentences, 1 sentences that are null" in printed


def test_a_column_that_no_row_has_a_value_in(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{**image_row(n), "caption": None, "n": str(n)} for n in range(3)]
    write_parquet(tmp_path / "rows.parquet", rows)
    said = refusal(tmp_path / "data", files=str(tmp_path / "rows.parquet"))
    assert "none of the 3 rows" in said and "caption is null" in said


def test_an_accidental_repeat_does_not_end_a_long_job(tmp_path: Path) -> None:
    rows = [image_row(n % 12, text=f"number {n}", id=str(n)) for n in range(30)]
    write_parquet(tmp_path / "rows.parquet", [*rows, rows[3]])
    main(Settings(tmp_path / "data", files=str(tmp_path / "rows.parquet"), id_column="id"))
    assert len(load_dataset(tmp_path / "data").images) == 30
    assert read_json(tmp_path / "data" / "dataset.json")["skipped"] == {"apart": 1}


def test_the_shared_case_of_a_null_caption(shared_cases: Path, tmp_path: Path, capsys: Any) -> None:
    main(Settings(tmp_path / "data", files=str(shared_cases / "10_parquet" / "null_caption.parquet")))
    assert len(load_dataset(tmp_path / "data").images) == 11
    assert "left out 1 of 12 rows: 1 rows without a sentence" in capsys.readouterr().out


def test_files_are_sorted_by_the_words_of_their_names() -> None:
    files = [Path(name) for name in ("dev.parquet", "TRAIN_1.parquet", "training.parquet", "000.parquet")]
    assert files_by_split(files) == {
        "val": ["dev.parquet"],
        "train": ["TRAIN_1.parquet", "training.parquet"],
        "all": ["000.parquet"],
    }


def test_the_real_photographs_are_imported(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "coco_cc_photos"
    entries = json.loads((source / "dataset_coco_cc_photos.json").read_text())["images"]
    rows: list[dict[str, Any]] = [
        {
            "image": {"bytes": (source / "images" / entry["filename"]).read_bytes(), "path": entry["filename"]},
            "filename": entry["filename"],
            "caption": [said["raw"] for said in entry["sentences"]],
            "split": entry["split"],
        }
        for entry in entries
    ]
    write_parquet(tmp_path / "photos.parquet", rows)
    main(Settings(tmp_path / "data", files=str(tmp_path / "photos.parquet")))
    dataset = load_dataset(tmp_path / "data")
    assert [len(dataset.split(name)) for name in SPLITS] == [21, 5, 25]
    first = dataset.images[0]
    assert dataset.image_path(first).read_bytes() == rows[0]["image"]["bytes"]  # not encoded anew
    assert len(first.sentences) == 5
