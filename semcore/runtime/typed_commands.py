"""Commands printed for a user to type: quoted, and valid on this machine and in this folder."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import yaml

from semcore.runtime.packaged_files import resource_folder
from semcore.runtime.text_files import read_text

ON_CPUS = "cpu_zero2.yaml"
ON_GPUS = "zero1.yaml"
Word = str | Path


def typed(path: Path | str) -> str:
    """Return the shortest form of a path from the current folder, not quoted yet."""
    path = Path(os.path.abspath(path))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def command(*words: Word) -> str:
    """Return a command line; paths are shortened, and what a shell would take apart is quoted.

    >>> command("semcore", "search", "--run", "a run", "a red circle")
    "semcore search --run 'a run' 'a red circle'"
    """
    return shlex.join(typed(word) if isinstance(word, Path) else word for word in words)


def data_command(module: str, *words: Word) -> str:
    """Return the command line of a module of `data_prep`.

    >>> data_command("check", "DATA")
    'python -m data_prep.check DATA'
    """
    return command("python", "-m", f"data_prep.{module}", *words)


def launch_command(recipe: str, *words: Word) -> str:
    """Return the command line that starts a recipe with DeepSpeed on this machine's GPUs, or on its CPU."""
    num_gpus = _num_gpus()
    file = resource_folder("ds_configs") / (ON_GPUS if num_gpus else ON_CPUS)
    processes = ("--num_processes", str(num_gpus)) if num_gpus else ()
    return command(
        "accelerate", "launch", *launcher_options(file), *processes, resource_folder("recipes") / recipe, *words
    )


def launcher_options(path: Path) -> list[str]:
    """Return the options for the launcher's configuration, and for the DeepSpeed file it names where that is needed.

    The name in it is relative to the folder that holds ds_configs, which need not be the current one.
    """
    options = ["--config_file", typed(path)]
    named = Path(read_launcher(path).get("deepspeed_config", {}).get("deepspeed_config_file", ""))
    if named.name and not named.exists():
        options += ["--deepspeed_config_file", typed(path.parent / named.name)]
    return options


def read_launcher(path: Path) -> dict[str, Any]:
    """Return the content of an accelerate configuration."""
    return yaml.safe_load(read_text(path)) or {}


def evaluate_anew(run: Path) -> str:
    """Return the command line that measures a run anew, with the settings that its evaluation had."""
    recorded, measured = run / "config.yaml", run / "metrics.json"
    config = ("--config", recorded) if recorded.is_file() else ()
    evaluate = command("semcore", "evaluate", *config, "--run", run)
    return f"{command('rm', measured)} && {evaluate}" if measured.is_file() else evaluate  # it would be skipped


def _num_gpus() -> int:
    try:
        import torch
    except ImportError:
        return 0
    return torch.cuda.device_count()
