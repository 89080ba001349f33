from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.names import find_file, is_there, similar_name

NFC, NFD = "\u00e9", "e\u0301"


def test_a_name_is_found_in_another_unicode_form_in_every_part(tmp_path: Path) -> None:
    (tmp_path / f"caf{NFD}").mkdir()
    (tmp_path / f"caf{NFD}" / f"th{NFC}.png").touch()
    assert find_file(tmp_path, f"caf{NFC}/th{NFD}.png") == tmp_path / f"caf{NFD}" / f"th{NFC}.png"
    assert find_file(tmp_path, f"caf{NFC}\\th{NFC}.png") == tmp_path / f"caf{NFD}" / f"th{NFC}.png"
    assert find_file(tmp_path, "none.png") == tmp_path / "none.png"
    assert find_file(tmp_path / "none", f"th{NFC}.png") == tmp_path / "none" / f"th{NFC}.png"


def test_the_name_letter_by_letter_comes_first_and_several_others_are_none(tmp_path: Path) -> None:
    other = "\u212b.png"  # Angstrom, which is the letter A with a ring in every normal form
    for name in ("\u00c5.png", "A\u030a.png"):
        (tmp_path / name).touch()
        assert find_file(tmp_path, name) == tmp_path / name
    assert find_file(tmp_path, other) == tmp_path / other
    (tmp_path / "A\u030a.png").unlink()
    assert find_file(tmp_path, other) == tmp_path / "\u00c5.png"


@pytest.mark.parametrize(
    ("name", "there"),
    [("Photo.JPG", "photo.jpg"), ("photo.jpeg", "photo.jpg"), ("PHOTO.png", "photo.jpg"), ("x.jpg", None)],
)
def test_near_names_are_said(tmp_path: Path, name: str, there: str | None) -> None:
    (tmp_path / "photo.jpg").touch()
    assert similar_name(tmp_path / name) == there
    assert similar_name(tmp_path / "none" / name) is None


@pytest.mark.parametrize("name", ["a b.png", "a#1.png", "100%.png", "'\".png", "🐶.png", "two\nlines.png", "x" * 250])
def test_odd_names_are_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert find_file(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5_000])
def test_impossible_names_are_missing(tmp_path: Path, name: str) -> None:
    assert find_file(tmp_path, name) == tmp_path / name
    assert similar_name(tmp_path / name) is None
    assert not is_there(tmp_path / name)
