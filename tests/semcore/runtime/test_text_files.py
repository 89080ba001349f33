"""Byte order marks are skipped wherever a user's text file is read."""

from __future__ import annotations

import codecs
import gzip
import json
import shutil
from pathlib import Path

import pytest

from semcore.models.prompts import load_prompts
from semcore.runtime.config_file import read_yaml
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_jsonl
from semcore.runtime.packaged_files import resource_folder
from semcore.runtime.text_files import lines_of, open_text, read_text

TEXT = "ein Hund, 狗\u2028🐶\nzwei\n"
ENCODED = {
    "bare": TEXT.encode(),
    "utf-8": codecs.BOM_UTF8 + TEXT.encode(),
    "twice": codecs.BOM_UTF8 * 2 + TEXT.encode(),
    "utf-16-le": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "utf-16-be": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "utf-32-le": codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
    "windows": codecs.BOM_UTF8 + TEXT.replace("\n", "\r\n").encode(),
}


@pytest.mark.parametrize("name", ENCODED)
def test_marks_are_no_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(ENCODED[name])
    assert read_text(path) == TEXT
    numbered = [(number, line.rstrip("\r\n")) for number, line in lines_of(path)]
    assert numbered == [(1, "ein Hund, 狗\u2028🐶"), (2, "zwei")]
    packed = tmp_path / "file.txt.gz"
    packed.write_bytes(gzip.compress(ENCODED[name]))
    with open_text(packed) as handle:
        assert handle.read() == TEXT


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("a café\n".encode("latin-1"), "0xe9"),
        ("a dog\n".encode("utf-16-le"), "UTF-16"),
        (codecs.BOM_UTF16_LE + b"a\0\0\xdc", "UTF-16-LE"),
    ],
)
def test_other_encodings_are_refused_by_name(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    for read in (read_text, lambda path: list(lines_of(path)), lambda path: list(read_jsonl(path))):
        with pytest.raises(UserError, match=word) as error:
            read(path)
        assert str(path) in str(error.value) and "save it as UTF-8" in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_yaml_and_prompts(tmp_path: Path, encoding: str) -> None:
    rows = [{"a": "é"}, {"a": "b"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding=encoding)
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == rows
    (tmp_path / "one.json").write_text(json.dumps(rows[0]), encoding=encoding)
    assert read_json(tmp_path / "one.json") == rows[0]
    (tmp_path / "config.yaml").write_text("caption:\n  limit: 3\n", encoding=encoding)
    assert read_yaml(tmp_path / "config.yaml") == {"caption": {"limit": 3}}
    shutil.copytree(resource_folder("prompts"), tmp_path / "prompts")
    for path in (tmp_path / "prompts").glob("*.jinja"):
        path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    own, plain = load_prompts(tmp_path / "prompts"), load_prompts(resource_folder("prompts"))
    assert own.sha256 == plain.sha256
    assert own.render("identify_t2i", query="x") == plain.render("identify_t2i", query="x")
