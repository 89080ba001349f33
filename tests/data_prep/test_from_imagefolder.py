from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from PIL import Image

from data_prep.from_imagefolder import Settings, main
from data_prep.source_images import IMAGE_SUFFIXES, UNLISTED_SUFFIXES
from semcore.data.dataset import SPLITS, Dataset, load_dataset, open_image, read_json, read_jsonl
from semcore.runtime.errors import UserError


def make_tree(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name)
    return root


def imported(root: Path, out: Path, **settings: Any) -> Dataset:
    main(Settings(root, out, **settings))
    return load_dataset(out)


def refusal(root: Path, out: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        main(Settings(root, out, **settings))
    assert not out.exists()
    return str(error.value)


def test_splits_are_drawn_by_lot_in_the_shares_asked_for(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", *(f"{n:02}.png" for n in range(20)))
    dataset = imported(root, tmp_path / "a", val_fraction=0.2, test_fraction=0.3)
    assert [len(dataset.split(name)) for name in SPLITS] == [10, 4, 6]
    assert imported(root, tmp_path / "b", val_fraction=0.2, test_fraction=0.3).images == dataset.images
    other = imported(root, tmp_path / "c", val_fraction=0.2, test_fraction=0.3, split_seed=1)
    assert [image.split for image in other.images] != [image.split for image in dataset.images]


def test_folders_named_like_splits_are_the_splits(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", "train/1.png", "train/cats/2.png", "validation/1.png", "test/1.png", "5.png")
    dataset = imported(root, tmp_path / "data")
    assert {image.source_file: image.split for image in dataset.images} == {
        "train/1.png": "train",
        "train/cats/2.png": "train",
        "validation/1.png": "val",
        "test/1.png": "test",
    }
    assert read_json(tmp_path / "data" / "dataset.json")["skipped"] == {"outside": 1}


def test_names_that_become_equal_get_numbers(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", "a b.png", "a+b.png", "a-b.jpg", "a-b-2.png")
    dataset = imported(root, tmp_path / "data")
    assert len({image.image_id for image in dataset.images}) == 4
    assert {image.source_file for image in dataset.images} == {"a b.png", "a+b.png", "a-b.jpg", "a-b-2.png"}


def test_without_any_sentence_all_images_are_kept_and_hidden_files_are_not(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", "a.PNG", "b.jpeg", ".hidden.png", ".git/c.png")
    (root / "notes.pdf").write_text("")
    dataset = imported(root, tmp_path / "data")
    assert [image.file_name for image in dataset.images] == ["images/a.png", "images/b.jpeg"]
    assert all(image.sentences == () for image in dataset.images)


def test_sentences_come_from_text_files_beside_the_images(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", "a.png", "deep/b.png", "c.png")
    (root / "a.txt").write_text("one\n\ntwo\n")
    (root / "deep" / "b.txt").write_text("three")
    dataset = imported(root, tmp_path / "data")
    assert {image.image_id: [s.text for s in image.sentences] for image in dataset.images} == {
        "a": ["one", "two"],
        "deep-b": ["three"],
    }
    assert dataset.images[0].sentences[1].sentence_id == "a-1"
    assert read_json(tmp_path / "data" / "dataset.json")["skipped"] == {"empty_sentence": 1, "no_sentences": 1}


def test_sentences_come_from_metadata_in_any_folder(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", "train/a.png", "train/b.png", "test/c.png")
    rows = [{"file_name": "a.png", "text": "one"}, {"file_name": "b.png", "sentences": ["two", "three"]}]
    (root / "train" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    row = {"file_name": "c.png", "sentences": [{"sentence_id": "s 9", "text": "four"}]}
    (root / "test" / "metadata.jsonl").write_text(json.dumps(row))
    dataset = imported(root, tmp_path / "data")
    assert [[s.text for s in image.sentences] for image in dataset.images] == [["four"], ["one"], ["two", "three"]]
    assert dataset.images[0].sentences[0].sentence_id == "s-9"


def test_a_dataset_folder_is_itself_an_image_folder(tiny_dataset: Path, tmp_path: Path) -> None:
    before = load_dataset(tiny_dataset)
    after = imported(tiny_dataset, tmp_path / "data", val_fraction=0, test_fraction=0)
    assert [image.sentences for image in after.images] == [image.sentences for image in before.images]


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ('{"file_name": "../a.png", "text": "x"}', "leads_out", ("line 2", "'../a.png'")),
        ('{"text": "x"}', "no_image", ("line 2", "file_name")),
        ('{"file_name": null, "text": "x"}', "no_image", ("line 2", "file_name")),
        ('{"file_name": ', "malformed", ("line 2", "not valid JSON")),
        ("[1]", "malformed", ("line 2", "JSON")),
        ('{"file_name": "b.png", "sentences": 3}', "no_text", ("b.png", "3")),
        ('{"file_name": "b.png", "sentences": [{"words": 3}]}', "no_text", ("b.png", "3")),
        ('{"file_name": "b.png", "text": null}', "null_sentence", ("b.png",)),
    ],
)
def test_a_bad_line_of_metadata_is_counted_and_left_out(
    tmp_path: Path, line: str, kind: str, words: tuple[str, ...], capsys: Any
) -> None:
    root = make_tree(tmp_path / "photos", "a.png", "b.png")
    (root / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n' + line)
    assert [image.image_id for image in imported(root, tmp_path / "data").images] == ["a"]
    skipped = {row["kind"]: row for row in read_jsonl(tmp_path / "data" / "skipped.jsonl")}
    assert skipped.keys() == {kind, "no_sentences"}
    assert all(word in f"{skipped[kind]['file']} {skipped[kind]['reason']}" for word in words)
    assert "left out 1 of 2 " in capsys.readouterr().out


def test_metadata_in_csv(tmp_path: Path, capsys: Any) -> None:
    root = make_tree(tmp_path / "photos", "a.png", "deep/b.png", "deep/c.png", "deep/d.png")
    (root / "metadata.csv").write_text('\ufefffile_name,text\na.png,"one, 1"\na.png,two\nx\n', encoding="utf-8")
    (root / "deep" / "metadata.csv").write_text("n,file_name,caption\n1,b.png,three\n2,c.png,\n3,d.png,four\n")
    (root / "deep" / "metadata.jsonl").write_text('{"file_name": "d.png", "text": "five"}\n')
    dataset = imported(root, tmp_path / "data")
    assert {image.image_id: [s.text for s in image.sentences] for image in dataset.images} == {
        "a": ["one, 1", "two"],
        "deep-b": ["three"],
        "deep-d": ["five"],
    }
    printed = capsys.readouterr().out
    assert (
        "left out 2 of 7 rows: 1 rows with another number of cells than the first line, 1 rows that repeat" in printed
    )


def test_all_files_are_read_or_counted(tmp_path: Path, capsys: Any) -> None:
    root = make_tree(tmp_path / "photos", "a.JPG", "b.png", "c.jpeg", "e.PnG", ".hidden.png")
    for name, kind in (("f.jfif", "JPEG"), ("g.AVIF", "AVIF"), ("h.jp2", "JPEG2000"), ("i.pgm", "PPM")):
        Image.new("L" if kind == "PPM" else "RGB", (8, 8)).save(root / name, kind)
    texts = {"a.TXT": "a", "B.txt": "b", "c.jpeg.txt": "c", "f.txt": "f", "g.Txt": "g", "h.txt": "h", "i.txt": "i"}
    for name, text in texts.items():
        (root / name).write_text(text)
    (root / "e.txt").write_bytes(b"caf\xe9")
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "b.txt").write_text("of no image")
    for name in ("notes.pdf", "x.heic", "photo"):
        (root / name).write_text("")
    dataset = imported(root, tmp_path / "data", val_fraction=0, test_fraction=0)
    assert {image.image_id: [s.text for s in image.sentences] for image in dataset.images} == {
        name: [name] for name in "abcfghi"
    }
    assert read_json(tmp_path / "data" / "dataset.json")["skipped"] == {
        "hidden": 1, "other_file": 3, "stray_text": 1, "unreadable_text": 1, "no_sentences": 1,
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "left out 6 of 21 files: 1 hidden images, 3 files of other kinds, 1 text files without" in printed
    assert "left out 1 of 8 images: 1 images without sentences" in printed


def test_datasets_takes_our_suffixes_for_images_but_those_that_are_known() -> None:
    folder_based = pytest.importorskip("datasets.packaged_modules.imagefolder.imagefolder")
    assert set(IMAGE_SUFFIXES) - set(folder_based.ImageFolder.EXTENSIONS) == set(UNLISTED_SUFFIXES)


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    outside = make_tree(tmp_path / "elsewhere", "o.png", "deep/p.png")
    root = make_tree(tmp_path / "photos", "here/a.png")
    (root / "abroad").symlink_to(outside)
    (root / "again").symlink_to(outside / "deep")
    (root / "also").symlink_to(root / "here")
    (root / "here" / "loop").symlink_to(root)
    (outside / "back").symlink_to(outside)
    (root / "nowhere").symlink_to(tmp_path / "none")
    (root / "gone.png").symlink_to(tmp_path / "none.png")
    (root / "b.png").symlink_to(root / "here" / "a.png")
    dataset = imported(root, tmp_path / "data")
    assert [image.source_file for image in dataset.images] == [
        "abroad/deep/p.png",
        "abroad/o.png",
        "b.png",
        "here/a.png",
    ]
    skipped = {row["file"] for row in read_jsonl(tmp_path / "data" / "skipped.jsonl") if row["kind"] == "link"}
    assert skipped == {"again", "also", "here/loop", "abroad/back", "nowhere", "gone.png"}


def test_names_in_another_unicode_form(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", "cafe\u0301.png", "gru\u0308n.png", "狗.png")
    (root / "gr\u00fcn.txt").write_text("green")
    rows = [{"file_name": "caf\u00e9.png", "text": "one"}, {"file_name": "狗.png", "text": "two"}]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = imported(root, tmp_path / "data")
    assert {image.source_file: [s.text for s in image.sentences] for image in dataset.images} == {
        "cafe\u0301.png": ["one"],
        "gru\u0308n.png": ["green"],
        "狗.png": ["two"],
    }


@pytest.mark.parametrize(
    ("name", "images", "sentences", "left_out"),
    [
        ("04_metadata_csv", 12, 12, "0 of 12 images"),
        ("05_links", 12, 12, "1 of 25 files"),
        ("06_suffixes", 4, 4, "0 of 4 images"),
        ("07_bom", 12, 24, "0 of 12 images"),
    ],
)
def test_the_shared_cases(
    shared_cases: Path, tmp_path: Path, name: str, images: int, sentences: int, left_out: str, capsys: Any
) -> None:
    root = tmp_path / name
    shutil.copytree(shared_cases / name, root, symlinks=True)  # a link that leads nowhere here
    dataset = imported(root, tmp_path / "data")
    assert (len(dataset.images), sum(len(image.sentences) for image in dataset.images)) == (images, sentences)
    assert f"left out {left_out}" in capsys.readouterr().out
    assert not any("\ufeff" in s.text for image in dataset.images for s in image.sentences)


def test_an_image_that_is_spoken_of_but_missing_is_named(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", "a.png")
    rows = [{"file_name": "a.png", "text": "one"}, {"file_name": "gone.png", "text": "two"}]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert refusal(root, tmp_path / "data") == (
        f"1 of the 2 images of {root} are missing, the first: gone.png; "
        "put them there, or leave them out with --skip-missing"
    )
    assert len(imported(root, tmp_path / "data", skip_missing=True).images) == 1
    assert read_json(tmp_path / "data" / "dataset.json")["skipped"] == {"missing": 1}


def test_odd_images_have_an_outcome_each(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", "plain.png")
    Image.new("RGB", (1, 1), "red").save(root / "one_pixel.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(root / "cmyk.jpg")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(root / "animated.gif", save_all=True, append_images=frames[1:])
    Image.new("1", (10_000, 10_000)).save(root / "hundred_megapixels.png")
    for kind in ("jpg", "png"):
        Image.effect_noise((64, 64), 50).save(tmp_path / f"noise.{kind}")
        (root / f"truncated.{kind}").write_bytes((tmp_path / f"noise.{kind}").read_bytes()[:-300])
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(root / "transparent.png")
    dataset = imported(root, tmp_path / "data", val_fraction=0, test_fraction=0)
    colours = {image.image_id: open_image(dataset.image_path(image)).getpixel((0, 0)) for image in dataset.images}
    assert colours.keys() == {"plain", "one_pixel", "cmyk", "animated", "transparent"}
    assert colours["one_pixel"] == (255, 0, 0)
    red, green, blue = colours["cmyk"]  # type: ignore[misc]
    assert red > 200 and max(green, blue) < 60  # converted, not inverted
    assert colours["animated"] == (255, 0, 0)  # its first frame
    assert colours["transparent"] == (255, 255, 255)
    reasons = {row["file"]: row["reason"] for row in read_jsonl(tmp_path / "data" / "skipped.jsonl")}
    assert reasons.keys() == {"hundred_megapixels.png", "truncated.png", "truncated.jpg"}
    assert reasons["hundred_megapixels.png"] == "10000 x 10000 is more than 89,478,485 pixels"
    assert "truncated" in reasons["truncated.jpg"]


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "photos", "a.png")
    os.rename(root / "a.png", os.fsencode(root / "b") + b"\xff.png")
    (image,) = imported(root, tmp_path / "data").images
    assert (image.image_id, image.source_file) == ("b", "b\ufffd.png")


def test_folders_that_cannot_work_are_one_sentence(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    out = tmp_path / "data"
    assert refusal(root, out) == f"there is no folder of images {root}; check --images"
    root.mkdir()
    assert refusal(root, out).startswith(f"there is no image in {root}; looked for .jpg, .jpeg")
    (root / "a.jpg").write_text("no picture")
    assert refusal(root, out) == (
        f"none of the 1 images of {root} can be used: a.jpg: not a picture in a known format; check --images"
    )
    assert refusal(root, root / "data") == f"--out {root}/data lies in --images {root}; choose a place outside of it"


@pytest.mark.parametrize("shares", [(0.6, 0.4), (-0.1, 0.1), (0.1, 1.5)])
def test_shares_must_leave_something_to_train_on(tmp_path: Path, shares: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="^--val-fraction and --test-fraction are fractions of at least 0"):
        Settings(tmp_path, tmp_path / "data", val_fraction=shares[0], test_fraction=shares[1])


def test_a_changed_tree_is_another_request(tmp_path: Path, run_module: Callable[..., CompletedProcess[str]]) -> None:
    root = make_tree(tmp_path / "photos", "a.png", "b.png")
    arguments = ("--images", root, "--out", tmp_path / "data", "--split-seed", 3, "--copy")
    assert run_module("data_prep.from_imagefolder", *arguments).returncode == 0
    assert "is already made" in run_module("data_prep.from_imagefolder", *arguments).stdout
    make_tree(root, "c.png")
    changed = run_module("data_prep.from_imagefolder", *arguments)
    assert changed.returncode == 2
    assert "already holds another dataset" in changed.stderr


def test_a_dataset_that_was_moved_with_its_source_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = tmp_path / "here"
    make_tree(here / "photos", "a.png", "b.png")
    imported(here / "photos", here / "data")
    moved = here.rename(tmp_path / "there")
    imported(moved / "photos", moved / "data")
    assert "is already made" in capsys.readouterr().out
    make_tree(tmp_path / "other" / "photos", "a.png", "b.png")
    with pytest.raises(UserError, match="another dataset"):
        main(Settings(tmp_path / "other" / "photos", moved / "data"))


def test_the_real_photographs_are_imported(shared_data: Path, tmp_path: Path) -> None:
    dataset = imported(shared_data / "coco_cc_photos" / "images", tmp_path / "data")
    assert [len(dataset.split(name)) for name in SPLITS] == [41, 5, 5]
    broken = tmp_path / "photos"
    shutil.copytree(shared_data / "coco_cc_photos" / "images", broken)
    victim = sorted(broken.iterdir())[0]
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    assert len(imported(broken, tmp_path / "less").images) == 50
