from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from semcore.data.dataset import (
    SPLITS,
    is_safe_id,
    load_dataset,
    make_safe_id,
    open_image,
    read_jsonl,
    sha256_of,
    verify_image,
    write_jsonl,
)
from semcore.runtime.errors import UnreadableImage, UserError


def change_row(folder: Path, number: int, **changes: Any) -> None:
    rows = list(read_jsonl(folder / "metadata.jsonl"))
    rows[number - 1].update(changes)
    write_jsonl(folder / "metadata.jsonl", rows)


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load_dataset(folder)
    return str(error.value).removeprefix(f"{folder}/")


def test_a_folder_is_read_in_order(tiny_dataset: Path) -> None:
    dataset = load_dataset(str(tiny_dataset))
    assert dataset.name == "tiny"
    assert [image.image_id for image in dataset.images] == [f"tiny-{n}" for n in range(6)]
    assert [len(dataset.split(name)) for name in SPLITS] == [3, 1, 2]
    assert [sentence.sentence_id for sentence in dataset.images[4].sentences] == ["tiny-4-0", "tiny-4-1"]
    assert dataset.images[0].sentences[0].text == "a red circle on white"
    assert dataset.images[0].source_file == "red.png"
    assert open_image(dataset.image_path(dataset.images[0])).size == (48, 40)
    assert dataset.fingerprint == sha256_of(tiny_dataset / "metadata.jsonl")


def test_the_fingerprint_follows_the_metadata(tiny_dataset: Path) -> None:
    before = load_dataset(tiny_dataset).fingerprint
    change_row(tiny_dataset, 2, source_file="renamed.png")
    assert load_dataset(tiny_dataset).fingerprint != before


def test_an_unknown_split_is_refused(tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no split 'dev'; choose one of train, val, test$"):
        load_dataset(tiny_dataset).split("dev")


def test_blank_sentences_are_left_out(tiny_dataset: Path) -> None:
    change_row(tiny_dataset, 1, sentences=[{"sentence_id": "a", "text": " \n"}, {"sentence_id": "b", "text": " x "}])
    change_row(tiny_dataset, 2, sentences=[])
    images = load_dataset(tiny_dataset).images
    assert [(s.sentence_id, s.text) for s in images[0].sentences] == [("b", "x")]
    assert images[1].sentences == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_id": "tiny-0"}, "image_id 'tiny-0' is already used in line 1"),
        ({"file_name": "images/tiny-0.png"}, "file_name 'images/tiny-0.png' is already used in line 1"),
        ({"sentences": [{"sentence_id": "tiny-0-1", "text": "x"}]}, "sentence_id 'tiny-0-1' is already used in line 1"),
        ({"sentences": [{"sentence_id": "s", "text": "x"}] * 2}, "sentence_id 's' is already used in line 3"),
        ({"image_id": None}, "image_id is missing"),
        ({"image_id": 7}, "image_id is 7, not text"),
        (
            {"image_id": "a b"},
            "image_id 'a b' is not safe; use letters, digits, - and _, and no split's name",
        ),
        (
            {"image_id": "COCO_val2014_1"},
            "image_id 'COCO_val2014_1' is not safe; use letters, digits, - and _, and no split's name",
        ),
        ({"file_name": "../red.png"}, "file_name '../red.png' leads out of the dataset folder"),
        ({"file_name": "/red.png"}, "file_name '/red.png' leads out of the dataset folder"),
        ({"split": "dev"}, "split 'dev' is not one of train, val, test"),
        ({"sentences": "x"}, "sentences is 'x', not a list"),
        ({"sentences": ["x"]}, "a sentence needs sentence_id and text, found 'x'"),
        ({"sentences": [{"sentence_id": "a b", "text": "x"}]}, "sentence_id 'a b' holds white space"),
        ({"sentences": [{"sentence_id": "a", "text": 3}]}, "the text of sentence 'a' is 3, not text"),
    ],
)
def test_a_defect_is_named_with_its_line(tiny_dataset: Path, changes: dict[str, Any], sentence: str) -> None:
    change_row(tiny_dataset, 3, **changes)
    assert refusal(tiny_dataset) == f"metadata.jsonl, line 3: {sentence}"


def test_malformed_json_is_named_with_its_line(tiny_dataset: Path) -> None:
    with (tiny_dataset / "metadata.jsonl").open("a") as handle:
        handle.write('{"image_id": "half')
    assert refusal(tiny_dataset).startswith("metadata.jsonl, line 7: not valid JSON (Unterminated string")


def test_no_folder_no_metadata_and_no_line_are_three_sentences(tmp_path: Path, tiny_dataset: Path) -> None:
    (tmp_path / "bare").mkdir()
    for name, reason in (("none", "there is no"), ("bare", "no metadata.jsonl")):
        sentence = refusal(tmp_path / name)
        assert str(tmp_path / name) in sentence and reason in sentence
        assert all(way in sentence for way in ("from_karpathy", "from_imagefolder", "from_csv", "make_scenes"))
    (tiny_dataset / "metadata.jsonl").write_text("\n")
    assert refusal(tiny_dataset).startswith("metadata.jsonl is empty; make the dataset again")


@pytest.mark.parametrize(
    "name", ["COCO_val2014_000000000042", "val", "1-test", "a/train/b", "x y.z", "Eval_1", "dev-val", "", "é"]
)
def test_safe_ids_name_no_split(name: str) -> None:
    assert not is_safe_id(name)
    assert is_safe_id(make_safe_id(name))


def test_long_names_fit_into_a_file_name() -> None:
    assert len(make_safe_id("val_" * 100)) < 250


@pytest.mark.parametrize("name", ["training3x", "a_value", "contest", "000000000042", "scene-000123"])
def test_what_is_safe_stays_or_only_gains_a_letter(name: str) -> None:
    assert make_safe_id(name) == (name if is_safe_id(name) else "x" + name)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=30) | st.lists(st.sampled_from(["val", "Test", "_", "1", "x", "."])).map("".join))
def test_every_name_can_be_made_safe_and_safe_names_stay(name: str) -> None:
    safe = make_safe_id(name)
    assert is_safe_id(safe)
    assert make_safe_id(safe) == safe


def test_datasets_library_reads_all_rows_and_loses_them_under_unsafe_names(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")

    def read(cache: str) -> Any:
        opened = datasets.load_dataset("imagefolder", data_dir=str(tiny_dataset), cache_dir=str(tmp_path / cache))
        return [row for split in opened.values() for row in split]

    safe_id = make_safe_id("COCO_val2014_000000000042")
    for image_id, cache in ((safe_id, "safe"), ("COCO_val2014_000000000042", "unsafe")):
        rows = list(read_jsonl(tiny_dataset / "metadata.jsonl"))
        (tiny_dataset / rows[0]["file_name"]).rename(tiny_dataset / f"images/{image_id}.png")
        change_row(tiny_dataset, 1, file_name=f"images/{image_id}.png")
        read_rows = read(cache)
        if image_id == safe_id:
            assert [row["sentences"] for row in read_rows] == [row["sentences"] for row in rows]
        else:
            assert not any(row.get("sentences") for row in read_rows)


def broken_copies(source: bytes) -> dict[str, bytes]:
    return {"empty": b"", "text": b"not a picture", "half": source[: len(source) // 2], "cut": source[:-40]}


@pytest.mark.parametrize("reader", [open_image, verify_image])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_broken_images_are_unreadable(tmp_path: Path, suffix: str, reader: Callable[[Path], Any]) -> None:
    whole = tmp_path / f"whole.{suffix}"
    Image.effect_noise((120, 90), 60).convert("RGB").save(whole)
    reader(whole)
    for name, content in broken_copies(whole.read_bytes()).items():
        path = tmp_path / f"{name}.{suffix}"
        path.write_bytes(content)
        with pytest.raises(UnreadableImage):
            reader(path)


def test_the_reason_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    for name, reason in (
        ("none.jpg", "there is no such file"),
        ("empty.jpg", "the file is empty"),
        ("text.jpg", "not a picture in a known format"),
    ):
        with pytest.raises(UnreadableImage) as error:
            open_image(tmp_path / name)
        assert str(error.value) == reason


def test_a_image_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 9500, 9500, 8, 2, 0, 0, 0), b"IDAT")
    content = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(UnreadableImage, match=r"^9500 x 9500 is more than 89,478,485 pixels$"):
        open_image(path)


def test_images_come_upright_opaque_and_in_rgb(tmp_path: Path) -> None:
    rotated = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    rotated.save(tmp_path / "rotated.jpg", exif=exif)
    assert open_image(tmp_path / "rotated.jpg").size == (20, 40)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    for mode in ("L", "P", "CMYK"):
        Image.new(mode, (4, 4)).save(tmp_path / f"{mode}.tif")
        assert open_image(tmp_path / f"{mode}.tif").mode == "RGB"


def test_every_real_photograph_opens(shared_data: Path) -> None:
    photographs = sorted((shared_data / "coco_cc_photos" / "images").iterdir())
    assert len(photographs) == 51
    assert {max(open_image(path).size) for path in photographs} == {448}


def test_metadata_without_dataset_json_still_opens(tiny_dataset: Path) -> None:
    (tiny_dataset / "dataset.json").unlink()
    assert load_dataset(tiny_dataset).name == "tiny_dataset"
    (tiny_dataset / "dataset.json").write_text(json.dumps([1]))
    assert refusal(tiny_dataset) == "dataset.json: a JSON object is needed, found list"


def test_a_repeated_id_comes_before_a_mistake_further_down(tiny_dataset: Path) -> None:
    change_row(tiny_dataset, 3, image_id="tiny-0")
    change_row(tiny_dataset, 5, split="other")
    assert refusal(tiny_dataset) == "metadata.jsonl, line 3: image_id 'tiny-0' is already used in line 1"
    change_row(tiny_dataset, 2, split="other")
    assert refusal(tiny_dataset).startswith("metadata.jsonl, line 2: split 'other' is not one of")
