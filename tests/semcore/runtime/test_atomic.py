from __future__ import annotations

from pathlib import Path

import pytest

from semcore.runtime.atomic import replaced_folder, restore_folder


def write(target: Path, text: str) -> None:
    with replaced_folder(target) as folder:
        (folder / f"{text}.txt").write_text(text)


def test_a_replaced_folder_holds_what_is_new_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "model", "first")
    write(tmp_path / "model", "second")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["model", "model/second.txt"]


def test_an_error_leaves_the_old_folder(tmp_path: Path) -> None:
    write(tmp_path / "model", "first")
    with pytest.raises(ZeroDivisionError), replaced_folder(tmp_path / "model") as folder:
        (folder / f"{1 / 0}.txt").touch()
    assert (tmp_path / "model" / "first.txt").exists()
    write(tmp_path / "model", "second")  # and what was half done is not mixed into the next one
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["second.txt"]


def test_a_kill_between_the_two_renames_is_mended(tmp_path: Path) -> None:
    write(tmp_path / "model", "first")
    (tmp_path / "model").rename(tmp_path / ".model.old")
    restore_folder(tmp_path / "model")
    restore_folder(tmp_path / "model")
    assert (tmp_path / "model" / "first.txt").exists()
