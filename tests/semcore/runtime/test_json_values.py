"""JSON that Python's parser does not refuse with its own error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_jsonl
from semcore.runtime.json_values import MAX_DEPTH, TOO_DEEP, TOO_LONG, parse_json

DEEP = "[" * 100_000


@pytest.mark.parametrize("text", ["1", ' {"a": [1, "[[["]} \n', '"x"', "[1e3, NaN, null]", '{"a": 1, "a": 2}'])
def test_what_is_json_is_read_as_python_reads_it(text: str) -> None:
    assert repr(parse_json(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ["", " ", "[1] x", "[1", "{'a': 1}", "nothing", "[1,]", "\ufeff1"])
def test_what_is_none_is_refused_where_python_refuses_it(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    with pytest.raises(json.JSONDecodeError) as found:
        parse_json(text)
    assert (found.value.lineno, found.value.colno) == (expected.value.lineno, expected.value.colno)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DEEP, TOO_DEEP),
        (DEEP + "]" * 100_000, TOO_DEEP),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), TOO_DEEP),
        ("9" * 5_000, TOO_LONG),
    ],
)
def test_what_python_cannot_hold_is_refused_too(text: str, reason: str) -> None:
    with pytest.raises(json.JSONDecodeError, match=reason):
        parse_json(text)
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse_json(f"[{'[],' * 200}1]")[-1] == 1  # many lists, but not in each other


def test_files_say_which_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"a": 1}}\n{{"a": {DEEP}\n')
    with pytest.raises(UserError, match=rf"a\.jsonl, line 2: not valid JSON \({TOO_DEEP}\)"):
        list(read_jsonl(tmp_path / "a.jsonl"))
    (tmp_path / "a.json").write_text('{"a": ' + "1" * 5_000 + "}")
    with pytest.raises(UserError, match=rf"a\.json, line 1: not valid JSON \({TOO_LONG}\)"):
        read_json(tmp_path / "a.json")
