"""Facts about a measurement: versions, hardware, memory; without importing the libraries."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch", "transformers", "accelerate", "deepspeed", "peft", "datasets", "sentence-transformers",
    "keybert", "scikit-learn", "numpy", "pillow",
)  # fmt: skip


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on, where installed."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


@cache
def git_sha() -> str | None:
    """Return the commit of the source checkout that runs, or None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    return _output_of("git", "-C", str(root), "rev-parse", "HEAD") or None


@cache
def describe_hardware() -> dict[str, Any]:
    """Return the processor, its cores that this process may use, memory in bytes, and the GPUs."""
    gpus = _output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "num_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": gpus.splitlines(),
    }


def describe_measurement() -> dict[str, Any]:
    """Return the record kept with every set of figures: "machine", "versions", "date" and "command"."""
    return {
        "machine": describe_hardware(),
        "versions": library_versions(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
    }


def peak_memory_bytes() -> int:
    """Return the most memory this process has held resident.

    Linux's VmHWM is read first: ru_maxrss starts from the parent's figure after a fork and exec.
    """
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _cpu_name() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _output_of(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
