from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from PIL import Image

from data_prep import from_imagefolder
from data_prep.check import Settings, main
from semcore.commands.arguments import parse
from semcore.data.dataset import WAYS, read_jsonl, write_jsonl
from semcore.runtime.errors import UserError

Runner = Callable[..., CompletedProcess[str]]


def test_a_whole_folder_is_counted_and_the_next_command_named(tiny_dataset: Path, run_module: Runner) -> None:
    done = run_module("data_prep.check", tiny_dataset)
    assert (done.returncode, done.stdout) == (
        0,
        "tiny: 6 images\n"
        "  train       3 images        6 sentences\n"
        "  val         1 images        2 sentences\n"
        "  test        2 images        4 sentences\n"
        f"{tiny_dataset} can be used\n"
        f"next: python -m data_prep.caption --data {tiny_dataset} --run RUN --model CHECKPOINT\n",
    )


def test_what_will_be_skipped_is_listed(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(read_jsonl(tiny_dataset / "metadata.jsonl"))
    rows[1]["sentences"] = []
    rows[2]["sentences"][1]["text"] = " "
    rows[3]["split"] = "train"
    write_jsonl(tiny_dataset / "metadata.jsonl", rows)
    (tiny_dataset / "dataset.json").write_text('{"name": "tiny", "metadata_sha256": "of old"}')
    (tiny_dataset / "images" / "tiny-0.png").write_bytes(b"")
    (tiny_dataset / "images" / "stray.png").write_bytes(b"")
    main(Settings(tiny_dataset))
    lines = capsys.readouterr().out.splitlines()
    for title, entry in (
        ("unreadable images: 1", "  images/tiny-0.png: the file is empty"),
        ("empty sentences: 1", "  tiny-2: tiny-2-1"),
        ("images without sentences: 1", "  tiny-1"),
        ("splits without images: 1", "  val"),
        ("files that no line of metadata.jsonl names: 1", "  images/stray.png"),
        ("changes since dataset.json was written: 1", "  metadata.jsonl"),
    ):
        assert lines[lines.index(title) + 1] == entry
    assert f"{tiny_dataset} can be used" in lines


def test_what_was_left_out_when_it_was_made_is_said_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.avif"):
        Image.new("RGB", (8, 8)).save(photos / name)
    (photos / "notes.pdf").touch()
    from_imagefolder.main(from_imagefolder.Settings(photos, tmp_path / "data"))
    capsys.readouterr()
    main(Settings(tmp_path / "data"))
    printed = capsys.readouterr().out
    assert "left out 1 of 3 files: 1 files of other kinds; listed in" in printed
    assert "  images/b.avif\n" in printed  # datasets.load_dataset leaves it out


def test_images_of_a_depth_without_a_white_are_unreadable(
    tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("F", (8, 8)).save(tiny_dataset / "images" / "tiny-0.png", "TIFF")
    Image.new("I;16", (8, 8)).save(tiny_dataset / "images" / "tiny-1.png")
    main(Settings(tiny_dataset))
    printed = capsys.readouterr().out
    assert "unreadable images: 1\n  images/tiny-0.png: " in printed and "floating point" in printed


def test_sentences_under_two_images_are_counted(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(read_jsonl(tiny_dataset / "metadata.jsonl"))
    rows[4]["sentences"][1]["text"] = " a  red circle on white "
    rows[2]["sentences"][0]["text"] = rows[2]["sentences"][1]["text"] = "twice under one image"
    write_jsonl(tiny_dataset / "metadata.jsonl", rows)
    main(Settings(tiny_dataset))
    lines = capsys.readouterr().out.splitlines()
    [place] = [number for number, line in enumerate(lines) if "under more than one image" in line]
    assert lines[place].endswith(": 1")
    assert lines[place + 1] == "  tiny-0-0, tiny-4-1: a red circle on white"


def test_a_file_name_that_other_tools_misread_is_listed(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(read_jsonl(tiny_dataset / "metadata.jsonl"))
    (tiny_dataset / rows[0]["file_name"]).rename(tiny_dataset / "images" / "val_0.png")
    rows[0]["file_name"] = "images/val_0.png"
    write_jsonl(tiny_dataset / "metadata.jsonl", rows)
    main(Settings(tiny_dataset))
    title = "file names that datasets.load_dataset would take for a split's: 1\n  images/val_0.png\n"
    assert title in capsys.readouterr().out


def test_a_missing_image_is_an_error(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny_dataset / "images" / "tiny-4.png").unlink()
    with pytest.raises(UserError) as error:
        main(Settings(tiny_dataset))
    assert "missing images: 1\n  images/tiny-4.png\n" in capsys.readouterr().out
    assert str(error.value) == (
        f"1 images of {tiny_dataset} are missing, the first is images/tiny-4.png; "
        "put them back, or make the dataset again"
    )


def test_no_readable_image_at_all_is_an_error(tiny_dataset: Path) -> None:
    for file in (tiny_dataset / "images").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError) as error:
        main(Settings(tiny_dataset))
    assert str(error.value) == (
        f"no image of {tiny_dataset} can be read; the first, images/tiny-0.png: the file is empty"
    )


def test_a_limit_opens_fewer_images(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny_dataset / "images" / "tiny-5.png").write_bytes(b"")
    main(Settings(tiny_dataset, limit=2))
    assert "unreadable" not in capsys.readouterr().out


def test_a_command_without_a_folder_is_one_sentence(run_module: Runner) -> None:
    done = run_module("data_prep.check")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: DATA is missing; see --help\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere", "--limit", "2.5"), "--limit takes a whole number or null, found '2.5'"),
        (("nowhere", "--limits", "2"), "unknown option --limits; did you mean --limit?"),
        (("nowhere",), f"there is no dataset folder nowhere; {WAYS}"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        main(parse(Settings, arguments, positional=["data"]))
    assert str(error.value) == sentence
