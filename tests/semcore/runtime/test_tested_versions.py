from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from semcore.runtime import tested_versions
from semcore.runtime.packaged_files import pinned_versions_file
from semcore.runtime.tested_versions import differences, read_versions


def test_names_what_is_installed_in_another_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Builds of one version are the same, and what is not installed cannot differ."""
    pins = tmp_path / "tested.txt"
    pins.write_text("# said by hand\nnumpy==2.4.6\ntorch==2.13.0\nrich==15.0.0\nabsent==1.0\n")
    installed = {"numpy": "2.5.0", "torch": "2.13.0+cpu", "rich": "15.0.0"}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(tested_versions, "version", version)
    monkeypatch.setattr(tested_versions, "pinned_versions_file", lambda: pins)
    assert differences() == [("numpy", "2.5.0", "2.4.6")]


def test_the_list_is_found_from_the_source_tree() -> None:
    assert read_versions(pinned_versions_file())["transformers"]


def test_without_a_list_nothing_differs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tested_versions, "pinned_versions_file", lambda: tmp_path / "none.txt")
    assert differences() == []
