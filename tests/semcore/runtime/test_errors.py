from __future__ import annotations

import subprocess
import sys

import pytest

import semcore
from semcore.runtime.errors import MOST_LETTERS, UserError

LIGHT_MODULES = (
    "semcore", "semcore.runtime.errors", "semcore.commands.arguments", "semcore.data.dataset",
    "semcore.data.run_folder",
    "data_prep.from_karpathy", "data_prep.from_imagefolder", "data_prep.from_csv", "data_prep.from_hub",
    "data_prep.make_scenes", "data_prep.check",
)  # fmt: skip


def test_reading_folders_and_command_lines_needs_no_torch() -> None:
    imports = "; ".join(f"import {name}" for name in LIGHT_MODULES)
    heavy = ("torch", "transformers", "sklearn")
    code = f"{imports}; import sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_package_names_what_it_lacks() -> None:
    with pytest.raises(AttributeError, match="module 'semcore' has no attribute 'Retreiver'"):
        _ = semcore.Retreiver


def test_of_a_long_sentence_the_middle_is_left_out() -> None:
    sentence = f"there is no column {'x' * 1_000_000!r}; choose among a, b"
    told = str(UserError(sentence))
    assert len(told) < MOST_LETTERS + 100
    assert told.startswith("there is no column 'xx") and told.endswith("xx'; choose among a, b")
    assert f"xx … ({len(sentence) - MOST_LETTERS:,} letters left out) … xx" in told
    assert str(UserError("x" * MOST_LETTERS)) == "x" * MOST_LETTERS
