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
from semcore.dataset import SPLITS, Dataset, load_dataset, open_image, read_json, read_jsonl
from semcore.errors import UserError


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
    dataset = imported(root, tmp_path / "a", val_share=0.2, test_share=0.3)
    assert [len(dataset.split(name)) for name in SPLITS] == [10, 4, 6]
    assert imported(root, tmp_path / "b", val_share=0.2, test_share=0.3).images == dataset.images
    other = imported(root, tmp_path / "c", val_share=0.2, test_share=0.3, split_seed=1)
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
    after = imported(tiny_dataset, tmp_path / "data", val_share=0, test_share=0)
    assert [image.sentences for image in after.images] == [image.sentences for image in before.images]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"file_name": "../a.png", "text": "x"}', "file_name '../a.png' leads out of the folder"),
        ('{"text": "x"}', "has no file_name"),
        ('{"file_name": "b.png", "sentences": 3}', "needs text or a list of sentences, found 3"),
        ('{"file_name": "b.png", "sentences": [3]}', "a sentence is a text or holds 'text', found 3"),
        ('{"file_name": "a.png", "text": "x"}', "repeats file_name 'a.png'"),
        ('{"file_name": ', "not valid JSON (Expecting value)"),
    ],
)
def test_wrong_metadata_is_named_with_its_line(tmp_path: Path, line: str, sentence: str) -> None:
    root = make_tree(tmp_path / "photos", "a.png", "b.png")
    (root / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n' + line)
    assert refusal(root, tmp_path / "data") == f"{root}/metadata.jsonl, line 2: {sentence}"


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
    dataset = imported(root, tmp_path / "data", val_share=0, test_share=0)
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
    assert refusal(root, out).startswith(f"there is no image in {root}; looked for .jpg, .jpeg, .png")
    (root / "a.jpg").write_text("no picture")
    assert refusal(root, out) == (
        f"none of the 1 images of {root} can be used: a.jpg: not a picture in a known format; check --images"
    )
    assert refusal(root, root / "data") == f"--out {root}/data lies in --images {root}; choose a place outside of it"


@pytest.mark.parametrize("shares", [(0.6, 0.4), (-0.1, 0.1), (0.1, 1.5)])
def test_shares_must_leave_something_to_train_on(tmp_path: Path, shares: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="^--val-share and --test-share are shares of at least 0"):
        Settings(tmp_path, tmp_path / "data", val_share=shares[0], test_share=shares[1])


def test_a_changed_tree_is_another_request(tmp_path: Path, run_module: Callable[..., CompletedProcess[str]]) -> None:
    root = make_tree(tmp_path / "photos", "a.png", "b.png")
    arguments = ("--images", root, "--out", tmp_path / "data", "--split-seed", 3, "--copy")
    assert run_module("data_prep.from_imagefolder", *arguments).returncode == 0
    assert "is already made" in run_module("data_prep.from_imagefolder", *arguments).stdout
    make_tree(root, "c.png")
    changed = run_module("data_prep.from_imagefolder", *arguments)
    assert changed.returncode == 2
    assert "already holds another dataset" in changed.stderr


def test_the_real_photographs_are_imported(shared_data: Path, tmp_path: Path) -> None:
    dataset = imported(shared_data / "coco_cc_photos" / "images", tmp_path / "data")
    assert [len(dataset.split(name)) for name in SPLITS] == [41, 5, 5]
    broken = tmp_path / "photos"
    shutil.copytree(shared_data / "coco_cc_photos" / "images", broken)
    victim = sorted(broken.iterdir())[0]
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    assert len(imported(broken, tmp_path / "less").images) == 50
