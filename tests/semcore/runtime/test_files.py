from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text, read_json, read_jsonl, sha256_of, write_json, write_jsonl, writing_to


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])

    def breaks() -> Iterator[dict[str, int]]:
        yield {"a": 2}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_jsonl(path, breaks())
    assert list(read_jsonl(path)) == [{"a": 1}]
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": "a tab\t, a line\u2028break, \u00e9"}, {"n": 1.5, "l": [1, None]}]
    write_jsonl(tmp_path / "deep" / "rows.jsonl", rows)
    assert list(read_jsonl(tmp_path / "deep" / "rows.jsonl")) == rows
    write_json(tmp_path / "one.json", rows[1])
    assert read_json(tmp_path / "one.json") == rows[1]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"a": 1}\n\n{"a": \n', "{path}, line 3: not valid JSON (Expecting value)"),
        (b'{"a": 1}\n[1]\n', "{path}, line 2: a JSON object is needed, found list"),
        (
            b'{"a": "\xff"}\n',
            "{path}, line 1: not UTF-8 text (byte 0xff); save it as UTF-8, "
            "such as with iconv -f WINDOWS-1252 -t UTF-8 rows.jsonl",
        ),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        list(read_jsonl(path))
    assert str(error.value) == sentence.format(path=path)


def test_a_json_file_names_its_line_and_must_hold_an_object(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text('{\n"a": 1,\n}')
    with pytest.raises(UserError, match=r"one\.json, line \d: not valid JSON"):
        read_json(path)
    path.write_text("[]")
    with pytest.raises(UserError, match=r"one\.json: a JSON object is needed, found list"):
        read_json(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_json, sha256_of, lambda path: list(read_jsonl(path))):
        with pytest.raises(UserError, match=r"^there is no file .*none\.json$"):
            read(tmp_path / "none.json")


def test_a_full_disk_is_a_sentence() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(UserError) as error, writing_to(full):
        full.write_text("x")
    assert str(error.value) == "no space left on the disk of /dev/full: free some and run the same command again"


def test_a_file_in_the_place_of_a_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), atomic_text(tmp_path / "file" / "x.txt"):
        pass


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    """A new file takes the name; the old one is not written over under its readers."""
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])
    with path.open(encoding="utf-8") as reader:
        write_jsonl(path, [{"a": 2}])
        assert reader.read() == '{"a": 1}\n'
