"""Copies of the recorded original checkpoints, for tests that change them."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parent / "fixtures"
needs_sentencepiece = pytest.mark.skipif(
    not all(map(find_spec, ("sentencepiece", "google", "google.protobuf"))), reason="pip install 'semcore[convert]'"
)
TEXT_MODELS = ("qwen2", pytest.param("internlm2", marks=needs_sentencepiece))


def copy_of(name: str, folder: Path) -> Path:
    """Copy an original checkpoint, without what was recorded of it."""
    shutil.copytree(FIXTURES / name, folder, ignore=shutil.ignore_patterns("recorded.safetensors", "tokens.json"))
    return folder


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; "a__b" is key b of object a."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        place, names = content, key.split("__")
        for name in names[:-1]:
            place = place[name]
        place[names[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")
