from __future__ import annotations

from pathlib import Path

import pytest

from semcore.commands.init import copy_out
from semcore.models.prompts import load_prompts
from semcore.runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


def test_copies_what_a_user_edits(tmp_path: Path) -> None:
    written = copy_out(tmp_path)
    assert {path.parts[0] for path in written} == {"prompts", "recipes", "ds_configs"}
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(tmp_path / name for name in written)
    for name in written:
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()


def test_commands_started_there_use_the_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_out(tmp_path)
    (tmp_path / "prompts" / "caption.jinja").write_text("{{ image }} Only the colours, please.")
    monkeypatch.chdir(tmp_path)
    assert load_prompts().render("caption", image="x") == "x Only the colours, please."


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    copy_out(tmp_path)
    (tmp_path / "prompts" / "caption.jinja").unlink()
    assert copy_out(tmp_path) == [Path("prompts/caption.jinja")]
    assert copy_out(tmp_path) == []


def test_an_edited_file_is_kept_and_nothing_else_is_written(tmp_path: Path) -> None:
    edited = tmp_path / "prompts" / "verify_t2i.jinja"
    edited.parent.mkdir()
    edited.write_text("mine")
    with pytest.raises(UserError) as caught:
        copy_out(tmp_path)
    assert str(caught.value) == (
        f"{edited} is there and differs from the original; choose another folder, or move it away"
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [edited]
    assert edited.read_text() == "mine"


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        copy_out(tmp_path / "file")
