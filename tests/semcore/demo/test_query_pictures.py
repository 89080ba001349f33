from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from semcore.data.dataset import Dataset, load_dataset, open_image
from semcore.demo import query_pictures
from semcore.demo.query_pictures import UPLOAD, QueryPictures
from semcore.runtime.errors import UserError


@pytest.fixture
def dataset(tiny_dataset: Path) -> Dataset:
    return load_dataset(tiny_dataset)


@pytest.fixture
def pictures(dataset: Dataset, tmp_path: Path) -> QueryPictures:
    return QueryPictures(dataset, tmp_path / "served")


def refused(work: object, *arguments: object) -> str:
    with pytest.raises(UserError) as error:
        work(*arguments)  # type: ignore[operator]
    return str(error.value)


def test_a_dropped_picture_is_found_by_its_key(pictures: QueryPictures, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "teal").save(tmp_path / "mine.png")
    key = pictures.key_of(tmp_path / "mine.png")
    assert key.startswith(UPLOAD) and len(key) == len(UPLOAD) + 16
    assert pictures.open(key).getpixel((0, 0)) == (0, 128, 128)
    shutil.copy(tmp_path / "mine.png", tmp_path / "again.png")
    assert pictures.key_of(tmp_path / "again.png") == key
    assert pictures.shown(key) == str(tmp_path / "mine.png")


def test_a_picture_of_the_dataset_keeps_its_id(pictures: QueryPictures, dataset: Dataset) -> None:
    """Also when it comes back from the page, which was given a copy."""
    shown = pictures.shown("tiny-2")
    assert shown is not None and Path(shown).parent != dataset.image_paths["tiny-2"].parent
    assert pictures.key_of(Path(shown)) == "tiny-2"
    assert pictures.open("tiny-2").tobytes() == open_image(dataset.image_paths["tiny-2"]).tobytes()


def test_a_format_that_no_browser_shows_becomes_one_that_they_do(pictures: QueryPictures, dataset: Dataset) -> None:
    Image.new("CMYK", (12, 8), (0, 255, 0, 0)).save(dataset.image_paths["tiny-1"], format="TIFF")
    shown = pictures.shown("tiny-1")
    assert shown is not None
    with Image.open(shown) as copy:
        assert copy.format == "PNG"
        assert copy.tobytes() == open_image(dataset.image_paths["tiny-1"]).tobytes()


def test_a_broken_picture_of_the_dataset_is_not_shown(pictures: QueryPictures, dataset: Dataset) -> None:
    dataset.image_paths["tiny-1"].write_bytes(b"broken")
    dataset.image_paths["tiny-0"].unlink()
    assert pictures.shown("tiny-1") is None and pictures.shown("tiny-0") is None
    assert refused(pictures.open, "tiny-0") == (
        "tiny-0.png cannot be read: there is no such file; give a picture such as a PNG or a JPEG"
    )


def test_what_is_no_picture_is_named(pictures: QueryPictures, tmp_path: Path) -> None:
    name = "<b>" * 60 + ".png"
    (tmp_path / name).write_text("no picture")
    assert refused(pictures.open, pictures.key_of(tmp_path / name)) == (
        f"{name[:80]}… cannot be read: not a picture in a known format; give a picture such as a PNG or a JPEG"
    )
    (tmp_path / "empty.png").touch()
    assert "the file is empty" in refused(pictures.open, pictures.key_of(tmp_path / "empty.png"))


def test_a_hundred_megapixels_are_refused_undecoded(pictures: QueryPictures, tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    assert refused(pictures.open, pictures.key_of(tmp_path / "huge.png")) == (
        "huge.png cannot be read: 10000 x 10000 is more than 89,478,485 pixels; give a picture such as a PNG or a JPEG"
    )


def test_a_large_file_is_refused_unread(
    pictures: QueryPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_pictures, "MOST_BYTES", 2 << 20)
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(5 << 20)
    assert refused(pictures.key_of, tmp_path / "large.png") == "a picture may have 2 MB here, found 5; make it smaller"


def test_what_is_not_there_is_said(pictures: QueryPictures, tmp_path: Path) -> None:
    assert refused(pictures.file_of, "other") == "there is no image 'other' in the dataset 'tiny'; choose another"
    assert refused(pictures.file_of, "../../etc/passwd").startswith("there is no image '../../etc/passwd'")
    gone = "the picture of this link was dropped on a page that is no longer served; drop it again"
    assert refused(pictures.file_of, UPLOAD + "0" * 16) == gone
    Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
    key = pictures.key_of(tmp_path / "mine.png")
    (tmp_path / "mine.png").unlink()
    assert refused(pictures.open, key) == gone
    assert refused(pictures.key_of, tmp_path / "mine.png") == "the dropped picture is gone; drop it again"
