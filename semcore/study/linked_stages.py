"""Runs that start from the finished stages of another run, by links."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from semcore.data.run_folder import RunFolder
from semcore.data.stages import STAGE_OUTPUTS
from semcore.runtime.files import write_json

_BESIDE = ("captions.stats.json", "features")


def share_run(source: Path, target: Path, stages: Sequence[str]) -> None:
    """Make a run folder with links to the outputs of another run's stages; an existing one is not changed.

    Args:
        source: the run whose stages are shared; they must be finished, and stay.
        target: the run to make.
        stages: names of stages.
    """
    manifest = RunFolder(source).manifest()
    if not stages or (target / "manifest.json").exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    for name in [*(output for stage in stages for output in STAGE_OUTPUTS[stage]), *_BESIDE]:
        if (source / name).exists() and not (target / name).is_symlink():
            (target / name).symlink_to(os.path.relpath(source / name, target))
    shared = {stage: manifest["stages"][stage] for stage in stages}
    write_json(target / "manifest.json", {**manifest, "stages": shared})


def finished(run: Path, stage: str) -> bool:
    """Return whether a stage of a run is finished."""
    return bool(RunFolder(run).manifest().get("stages", {}).get(stage, {}).get("finished"))
