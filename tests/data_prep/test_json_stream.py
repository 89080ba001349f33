from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import json_stream
from data_prep.json_stream import stream_list
from semcore.runtime.errors import UserError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(VALUES, max_size=6),
    others=st.dictionaries(st.text(), VALUES, max_size=3),
    ascii_only=st.booleans(),
)
def test_entries_are_those_of_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Any], others: dict[str, Any], ascii_only: bool
) -> None:
    """Blocks of seven characters: every value is cut somewhere."""
    others.pop("images", None)
    path = tmp_path_factory.mktemp("json") / "file.json"
    half = len(others) // 2
    pairs = list(others.items())
    document = {**dict(pairs[:half]), "images": entries, **dict(pairs[half:])}
    path.write_text(json.dumps(document, ensure_ascii=ascii_only, indent=1), encoding="utf-8", errors="replace")
    expected = json.loads(path.read_text())
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "BLOCK", 7)
        assert list(stream_list(path, "images", found)) == expected.pop("images")
    assert found == expected


@pytest.mark.parametrize(
    "text",
    ['{"images": [1, 2', '{"images": [1 2]}', '{"images": [1,]}', '{"images": [1]} x', '{"a" 3}', "{3: 4}", "not",
     '{"images": ["half', '{"a": 1,}', '{"images": [{"a": tru}]}', ""],
)  # fmt: skip
def test_what_is_no_json_is_said_with_its_place(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_text("\n" + text)
    with pytest.raises(UserError, match=r"file\.json, line 2, column \d+: not valid JSON \("):
        list(stream_list(path, "images", {}))
    with pytest.raises(json.JSONDecodeError) as error:
        json.loads("\n" + text)
    assert error.value.lineno == 2 or not text


@pytest.mark.parametrize("text", ["[]", "3", '{"images": 3}', "{}"])
def test_json_of_another_layout_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not in the Karpathy layout: it has no list 'images'$"):
        list(stream_list(path, "images", {}))
