from __future__ import annotations

import importlib.metadata
import json
from email.message import Message
from pathlib import Path

import pytest

from semcore.commands import env
from semcore.commands.env import (
    compile_operation,
    describe_environment,
    extensions_folder,
    is_operation_compiled,
    missing_for_quickstart,
    missing_parts,
)
from semcore.runtime.errors import UserError


def metadata_with(*requirements: str) -> Message:
    message = Message()
    for requirement in requirements:
        message["Requires-Dist"] = requirement
    return message


def test_describes_this_machine_as_plain_data() -> None:
    facts = describe_environment()
    assert facts["libraries"]["torch"]
    assert facts["hardware"]["num_cores"] >= 1
    assert facts["device"].startswith(("cpu", "cuda"))
    assert facts["distributed_backend"] in ("gloo", "nccl")
    json.dumps(facts)


def test_says_what_is_missing_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    about = metadata_with(
        "numpy>=1", "pillow>=999", "no-such-library", "no-such-page; extra == 'plots'", "pytest; extra == 'dev'"
    )
    monkeypatch.setattr(env, "metadata", lambda name: about)
    found = {part.what: (part.needed_for, part.get_it) for part in missing_parts()}
    pillow = importlib.metadata.version("pillow")
    assert found[f"pillow>=999 (found {pillow}), no-such-library"] == ("everything", "pip install -e '.'")
    assert found["no-such-page"] == ("the plots of a study", "pip install -e '.[plots]'")
    assert not any("pytest" in what or "numpy" in what for what in found)


def test_a_package_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(env, "metadata", not_installed)
    assert missing_parts()[0].get_it == "pip install -e '.[quickstart]'"


def test_the_quickstart_misses_its_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(env, "QUICKSTART_PACKAGES", ("numpy", "no-such-encoder"))
    monkeypatch.setattr(env, "asset_folder", lambda name: tmp_path)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [part.what for part in missing_for_quickstart()] == [
        "no-such-encoder", "a C++ compiler", "the base checkpoint",
    ]  # fmt: skip


def test_the_quickstart_misses_nothing_where_all_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "deepspeed_shm_comm").mkdir()
    (tmp_path / "deepspeed_shm_comm" / "deepspeed_shm_comm.so").touch()
    monkeypatch.setattr(env, "QUICKSTART_PACKAGES", ("numpy",))
    monkeypatch.setattr(env, "asset_folder", lambda name: tmp_path)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing_for_quickstart() == []


def test_compiled_operations_are_kept_in_the_environment_that_make_prepared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setattr(env.sys, "prefix", str(tmp_path))
    assert extensions_folder() == Path.home() / ".cache" / "torch_extensions"
    (tmp_path / "torch_extensions").mkdir()
    assert extensions_folder() == tmp_path / "torch_extensions"
    assert not is_operation_compiled()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "/elsewhere")
    assert extensions_folder() == Path("/elsewhere")


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Builder:
        def is_compatible(self, verbose: bool) -> bool:
            return True

    monkeypatch.setattr(env, "_operation_builder", Builder)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no C\+\+ compiler.* install g\+\+"):
        compile_operation()
