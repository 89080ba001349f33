"""Next commands, as each stage of a run prints them at its end."""

from __future__ import annotations

from pathlib import Path

from semcore.data.run_folder import RunFolder
from semcore.models.run_checkpoints import recorded_captioner
from semcore.runtime.config_file import read_yaml
from semcore.runtime.typed_commands import Word, command, data_command, launch_command

CAPTIONS_A_CLUSTER = 8  # used when there are fewer captions than clusters


def after_captions(run: RunFolder, data: Path, config: Path | None, num_captions: int, num_clusters: int) -> str:
    """Return the command that makes identifiers, with fewer clusters where there are too few captions.

    Args:
        run: the run.
        data: its dataset folder.
        config: the config file of the stages.
        num_captions: number of captions of the training split.
        num_clusters: number of clusters by default.
    """
    few = max(1, num_captions // CAPTIONS_A_CLUSTER)
    clusters = ("--num-clusters", str(few)) if 0 < num_captions < num_clusters else ()
    return data_command("identifiers", *clusters, *_where(run, data, config))


def after_identifiers(run: RunFolder, data: Path, config: Path | None) -> str:
    """Return the command that trains the identifier model; with CHECKPOINT where no starting point is known."""
    known = _base_in(config) or recorded_captioner(run)
    base = () if known else ("--model.base", "CHECKPOINT")
    return launch_command("train_identifier.py", *base, *_where(run, data, config))


def after_identifier_model(run: RunFolder, data: Path, config: Path | None) -> str:
    """Return the command that mines candidates."""
    return data_command("candidates", *_where(run, data, config))


def after_candidates(run: RunFolder, data: Path, config: Path | None) -> str:
    """Return the command that trains the verifier."""
    return launch_command("train_verifier.py", *_where(run, data, config))


def after_verifier(run: RunFolder, data: Path, config: Path | None, attention: str) -> str:
    """Return the command that evaluates the run with the verifier that was trained last."""
    verifier = ("--verifier", "blocks") if attention == "blocks" else ()
    return command("semcore", "evaluate", *verifier, *_where(run, data, config))


def _where(run: RunFolder, data: Path, config: Path | None) -> list[Word]:
    given: list[Word] = ["--config", Path(config)] if config else []
    return [*given, "--data", Path(data), "--run", run.path]


def _base_in(config: Path | None) -> str | None:
    """Return the checkpoint that a configuration names for the identifier model's training."""
    section = (read_yaml(config) or {}).get("train_identifier") if config else None
    model = section.get("model") if isinstance(section, dict) else None
    return model.get("base") if isinstance(model, dict) else None
