"""The verifier of a search: which one a run is searched with, and where its checkpoint is."""

from __future__ import annotations

from pathlib import Path

from semcore.data.run_folder import RunFolder
from semcore.models.run_checkpoints import has_verifier, model_of
from semcore.models.verifier_registry import VERIFIERS, VerifierName
from semcore.runtime.errors import UserError
from semcore.runtime.moved_checkpoints import find_checkpoint
from semcore.verification.score_fusion import FUSION_FILE, FusionSettings, read_fusion_settings


def choose_verifier(run: RunFolder, wish: VerifierName) -> tuple[VerifierName, FusionSettings]:
    """Return the verifier of a search, and what an evaluation has fitted.

    Args:
        run: the run folder.
        wish: a name, "none", or "auto" for the one the evaluation found better, else a trained listwise one, else the
            likelihood.

    Raises:
        UserError: there is no such verifier, or verification.json is broken.
    """
    names = (*VERIFIERS, "auto", "none")
    if wish not in names:
        raise UserError(f"there is no verifier {wish!r}; choose one of {', '.join(names)}")
    path = run / FUSION_FILE
    fusion_settings = read_fusion_settings(path) if path.exists() else FusionSettings("", {})
    if wish == "auto":
        if fusion_settings.verifier in (*VERIFIERS, "none"):
            wish = fusion_settings.verifier
        else:
            wish = "listwise" if has_verifier(run) else "blocks" if has_verifier(run, "blocks") else "likelihood"
    return wish, fusion_settings


def verifier_model(
    run: RunFolder, verifier: VerifierName, fusion_settings: FusionSettings, base: str | Path | None
) -> str:
    """Return where a verifier's checkpoint is now: the one that the evaluation was told to use, or the run's own.

    Args:
        run: the run folder.
        verifier: whose checkpoint.
        fusion_settings: what the evaluation has fitted, and with which models.
        base: where the checkpoint that the run was made with is now, None where it was.

    Raises:
        UserError: the checkpoint is not there.
    """
    named = fusion_settings.models.get(verifier)
    if named is None:
        return model_of(run, verifier, base)
    known = run.manifest().get("stages", {}).get("evaluate", {}).get("inputs", {}).get(f"the {verifier} model")
    missing = f"the {verifier} verifier of {run.path}, {named}, is no longer there; say where it is with --base FOLDER"
    return find_checkpoint(named, known, given=base, missing=missing)
