"""Checkpoints of a run: the models it has trained, and the captioner."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from semcore.data.run_folder import RunFolder
from semcore.models.verifier_registry import VERIFIERS, checkpoint_to_name
from semcore.runtime.errors import UserError
from semcore.runtime.moved_checkpoints import find_checkpoint
from semcore.runtime.typed_commands import Word, launch_command

GeneratorName = Literal["auto", "identifier", "ranked"]
VERIFIER_FOLDERS = {"full": "verifier_model", "blocks": "verifier_model_blocks"}
"""Attention of a listwise verifier -> its folder in the run; both may exist, for comparison."""


def generator_of(run: RunFolder, which: GeneratorName = "auto") -> str:
    """Return the generator's folder: the ranked model where it is trained, else the identifier model.

    Args:
        run: the run folder.
        which: "identifier" or "ranked" for the one or the other.

    Raises:
        UserError: it is not trained yet.
    """
    if which == "ranked" or (which == "auto" and _is_model(run, "ranked_model")):
        return _trained(run, "ranked_model", "train_ranking.py", ["--run", run.path])
    return _trained(run, "identifier_model", "train_identifier.py", ["--run", run.path])


def verifier_of(run: RunFolder) -> str:
    """Return the listwise verifier's folder.

    Raises:
        UserError: it is not trained yet.
    """
    way_out = ", or use --verifier likelihood"
    return _trained(run, VERIFIER_FOLDERS["full"], "train_verifier.py", ["--run", run.path], way_out)


def blocks_verifier_of(run: RunFolder) -> str:
    """Return the folder of the listwise verifier that was trained in candidate blocks.

    Raises:
        UserError: it is not trained yet.
    """
    words: list[Word] = ["--attention", "blocks", "--run", run.path]
    return _trained(run, VERIFIER_FOLDERS["blocks"], "train_verifier.py", words)


def captioner_of(run: RunFolder, verifier: str = "likelihood", moved: str | Path | None = None) -> str:
    """Return the checkpoint that wrote the run's captions, which untrained verifiers use.

    Args:
        run: the run folder.
        verifier: the verifier that uses it, "likelihood" or "pointwise".
        moved: the path that the user gives.

    Raises:
        UserError: the run's captions came from elsewhere, or from a server, or the checkpoint is not found.
    """
    stage = run.manifest().get("stages", {}).get("caption")
    if stage is None:
        raise UserError(
            f"{run.path} does not say which model wrote its captions, and the {verifier} verifier asks that one; "
            f"name a model with --{verifier}-model, or use --verifier listwise"
        )
    if stage["settings"].get("served"):
        raise UserError(
            f"the captions of {run.path} were written by a server, and the {verifier} verifier asks a model that runs "
            f"here; name a checkpoint with --{verifier}-model, or use --verifier listwise"
        )
    return _source_of(run, stage, stage["settings"]["model"], moved)


def generator_start_of(run: RunFolder, moved: str | Path | None = None) -> str:
    """Return the default checkpoint from which the identifier model is trained: the captioner.

    Args:
        run: the run folder.
        moved: the captioner's path as the user gives it.

    Raises:
        UserError: the run's captions came from elsewhere, or from a server, or their model is not found.
    """
    captioner = recorded_captioner(run)
    if captioner is None:
        raise UserError(
            f"nothing says what to fine-tune, as {run / 'captions.jsonl'} was not written by a model that runs here: "
            "name a checkpoint with --model.base CHECKPOINT"
        )
    return _source_of(run, run.manifest()["stages"]["caption"], captioner, moved)


def recorded_captioner(run: RunFolder) -> str | None:
    """Return the checkpoint that wrote the run's captions; None where they came from elsewhere, or from a server."""
    settings = run.manifest().get("stages", {}).get("caption", {}).get("settings", {})
    return None if settings.get("served") else settings.get("model")


def model_of(run: RunFolder, verifier: str, moved: str | Path | None = None) -> str:
    """Return the run's checkpoint for a verifier: the trained listwise one or that in blocks, or the captioner.

    Args:
        run: the run folder.
        verifier: its name.
        moved: the captioner's path as the user gives it.

    Raises:
        UserError: it is not trained yet, not found, or has to be named.
    """
    if VERIFIERS[verifier].model == "named":
        raise checkpoint_to_name(verifier)
    if verifier == "blocks":
        return blocks_verifier_of(run)
    return verifier_of(run) if verifier == "listwise" else captioner_of(run, verifier, moved)


def untrained_verifier_of(run: RunFolder, moved: str | Path | None = None) -> str | None:
    """Return the checkpoint from which the listwise verifier was trained, None where it is not recorded.

    Args:
        run: the run folder.
        moved: the path that the user gives.

    Raises:
        UserError: it is not found.
    """
    stages = run.manifest().get("stages", {})
    stage = stages.get("train_verifier", {})
    model = stage.get("settings", {}).get("model", {})
    if not model:
        return None
    if model.get("base"):
        return _source_of(run, stage, model["base"], moved)
    generator = stages.get("train_identifier", {})
    place = generator.get("settings", {}).get("model", {}).get("base")
    if model.get("start") == "identifier":
        return str(run / "identifier_model")
    return _source_of(run, generator, place, moved) if place else None


def verifier_start_of(run: RunFolder, start: str, moved: str | Path | None = None) -> str:
    """Return the checkpoint from which a verifier is trained.

    Args:
        run: the run folder.
        start: "identifier" for the identifier model, "base" for the checkpoint that it was trained from.
        moved: the base's path as the user gives it.

    Raises:
        UserError: there is no identifier model yet, or its base is not found.
    """
    stage = run.manifest().get("stages", {}).get("train_identifier")
    if stage is None:
        raise UserError(f"{run.path} has no identifier model yet; say with --model.base what to start from")
    if start == "identifier":
        return str(run / "identifier_model")
    return _source_of(run, stage, stage["settings"]["model"]["base"], moved)


def source_fingerprint(run: RunFolder, stage: str) -> str | None:
    """Return the fingerprint of the checkpoint that a stage started from, None where none was recorded."""
    return _fingerprint_of(run.manifest().get("stages", {}).get(stage, {}))


def has_verifier(run: RunFolder, attention: str = "full") -> bool:
    """Return whether the listwise verifier is trained, with full attention or in "blocks"."""
    return _is_model(run, VERIFIER_FOLDERS[attention])


def _fingerprint_of(stage: dict[str, Any]) -> str | None:
    inputs = stage.get("inputs", {})
    return inputs.get("the model") or inputs.get("the checkpoint")


def _source_of(run: RunFolder, stage: dict[str, Any], place: str, moved: str | Path | None) -> str:
    """Return the present path of a checkpoint that a stage has recorded."""
    beside = None
    if "run" in stage and Path(place).is_absolute():
        beside = run.path / os.path.relpath(place, stage["run"])  # it may have moved together with the run
    missing = f"the checkpoint that {run.path} was made with, {place}, is no longer there; say where with --base FOLDER"
    return find_checkpoint(place, _fingerprint_of(stage), beside=beside, given=moved, missing=missing)


def _trained(run: RunFolder, name: str, recipe: str, words: Sequence[Word], way_out: str = "") -> str:
    if not _is_model(run, name):
        raise UserError(f"there is no model in {run / name}; train it with `{launch_command(recipe, *words)}`{way_out}")
    return str(run / name)


def _is_model(run: RunFolder, name: str) -> bool:
    return any((run / name / config).is_file() for config in ("config.json", "adapter_config.json"))
