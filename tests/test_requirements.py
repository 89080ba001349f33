"""The tested versions can be installed anywhere, cover every dependency, and lie in the ranges."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from semcore.runtime.tested_versions import read_versions

ROOT = Path(__file__).resolve().parent.parent
TESTED = ROOT / "requirements" / "tested.txt"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RANGES = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
    if not line.startswith("semcore[")
]


@pytest.fixture(scope="module")
def pin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("requirements_pin", ROOT / "requirements" / "pin.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks its annotations up
    spec.loader.exec_module(module)
    return module


def test_any_machine_can_install_the_tested_versions() -> None:
    """No hashes, addresses or options, and no build of one machine such as 2.13.0+cpu."""
    lines = [line for line in TESTED.read_text().splitlines() if not line.startswith("#")]
    pins = [line.split("==") for line in lines]
    assert pins == sorted(pins)
    for name, version in pins:
        assert canonicalize_name(name) == name
        assert Version(version).public == version


@pytest.mark.parametrize("need", RANGES, ids=str)
def test_every_direct_dependency_is_pinned_inside_its_range(need: Requirement) -> None:
    assert need.specifier.contains(read_versions(TESTED)[canonicalize_name(need.name)])


def test_make_installs_the_tested_versions() -> None:
    told = subprocess.run(["make", "--dry-run", "--always-make", "install"], cwd=ROOT, capture_output=True, text=True)
    assert "--requirement requirements/tested.txt" in told.stdout


def test_what_comes_along_is_pinned_too(pin: ModuleType) -> None:
    found = pin.installed_versions("jsonargparse", {"signatures"})
    assert {"pyyaml", "docstring-parser", "typeshed-client"} <= set(found)
    assert found["pyyaml"] == distribution("pyyaml").version
    assert not {"pip", "jsonargparse", "pytest"} & set(found)


def test_builds_leave_no_trace_in_what_is_pinned(pin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch pins by itself belongs to its build for CUDA."""
    needs = {
        "semcore": ["torch>=2", "absent-page; extra == 'other'"],
        "torch": ["sympy>=1", "nvidia-nccl==2.1; platform_system == 'Linux'"],
        "sympy": [],
    }
    versions = {"torch": "2.13.0+cpu", "sympy": "1.14.0"}
    monkeypatch.setattr(
        pin, "distribution", lambda name: SimpleNamespace(requires=needs[name], version=versions.get(name))
    )
    assert pin.installed_versions("semcore", {"all"}) == {"torch": "2.13.0", "sympy": "1.14.0"}


def test_torch_keeps_its_version_unless_another_is_named(
    pin: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pin, "PATH", tmp_path / "tested.txt")
    monkeypatch.setattr(pin, "installed_versions", lambda *_: {"torch": "2.14.1", "numpy": "2.4"})
    for wish, expected in ((None, "2.14.1"), ("2.13.0", "2.13.0"), (None, "2.13.0")):
        pin.main(pin.Settings(torch=wish))
        assert read_versions(pin.PATH) == {"numpy": "2.4", "torch": expected}
    assert "torch: 2.14.1 -> 2.13.0" in capsys.readouterr().out
