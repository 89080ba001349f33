"""Which checkpoints a run uses: what it has trained, and what wrote its captions."""

from __future__ import annotations

from collections.abc import Sequence

from semcore.errors import UserError
from semcore.runfolder import RunFolder
from semcore.typed_commands import Word, launch_command

VERIFIER_FOLDERS = {"full": "verifier_model", "blocks": "verifier_model_blocks"}
"""Attention of a listwise verifier -> its folder in the run; both may be there, to be compared."""


def generator_of(run: RunFolder) -> str:
    """Return the identifier model's folder.

    Raises:
        UserError: it is not trained yet.
    """
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


def captioner_of(run: RunFolder, verifier: str = "likelihood") -> str:
    """Return the checkpoint that wrote the run's captions: verifiers that need no training ask it.

    Args:
        run: the run folder.
        verifier: who asks, "likelihood" or "pointwise".

    Raises:
        UserError: the run's captions came from elsewhere, or from a server.
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
    return stage["settings"]["model"]


def generator_start_of(run: RunFolder) -> str:
    """Return what the identifier model starts from, unless something else is named: the model that wrote the captions.

    Raises:
        UserError: the run's captions came from elsewhere, or from a server.
    """
    captioner = recorded_captioner(run)
    if captioner is None:
        raise UserError(
            f"nothing says what to fine-tune, as {run / 'captions.jsonl'} was not written by a model that runs here: "
            "name a checkpoint with --model.base CHECKPOINT"
        )
    return captioner


def recorded_captioner(run: RunFolder) -> str | None:
    """Return the checkpoint that wrote the run's captions; None where they came from elsewhere, or from a server."""
    settings = run.manifest().get("stages", {}).get("caption", {}).get("settings", {})
    return None if settings.get("served") else settings.get("model")


def model_of(run: RunFolder, verifier: str) -> str:
    """Return the run's checkpoint for a verifier: the one trained to choose, or for others the captioner.

    Raises:
        UserError: it is not trained yet, or not known.
    """
    if verifier == "blocks":
        return blocks_verifier_of(run)
    return verifier_of(run) if verifier == "listwise" else captioner_of(run, verifier)


def untrained_verifier_of(run: RunFolder) -> str | None:
    """Return what the listwise verifier was trained from, None where the run does not say."""
    stages = run.manifest().get("stages", {})
    model = stages.get("train_verifier", {}).get("settings", {}).get("model", {})
    if model.get("start") == "identifier" and not model.get("base"):
        return str(run / "identifier_model")
    generator = stages.get("train_identifier", {}).get("settings", {}).get("model", {})
    return (model.get("base") or generator.get("base")) if model else None


def verifier_start_of(run: RunFolder, start: str) -> str:
    """Return what a verifier starts from: "base" is what the identifier model started from, "identifier" that model.

    Raises:
        UserError: there is no identifier model yet.
    """
    stage = run.manifest().get("stages", {}).get("train_identifier")
    if stage is None:
        raise UserError(f"{run.path} has no identifier model yet; say with --model.base what to start from")
    return str(run / "identifier_model") if start == "identifier" else stage["settings"]["model"]["base"]


def has_verifier(run: RunFolder, attention: str = "full") -> bool:
    """Tell whether the listwise verifier is trained, with full attention or in "blocks"."""
    return _is_model(run, VERIFIER_FOLDERS[attention])


def _trained(run: RunFolder, name: str, recipe: str, words: Sequence[Word], way_out: str = "") -> str:
    if not _is_model(run, name):
        raise UserError(f"there is no model in {run / name}; train it with `{launch_command(recipe, *words)}`{way_out}")
    return str(run / name)


def _is_model(run: RunFolder, name: str) -> bool:
    return any((run / name / config).is_file() for config in ("config.json", "adapter_config.json"))
