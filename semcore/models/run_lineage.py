"""Lineage of a run's models, by their use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.models import verifier_registry
from semcore.models.lineage import (
    KINDS,
    Kind,
    Mismatch,
    Surroundings,
    find_changes_since_fitting,
    find_mismatches,
    refuse_others,
    require_directions,
    trained_directions,
)
from semcore.models.prompts import load_prompts
from semcore.models.run_checkpoints import source_fingerprint
from semcore.models.verifier_registry import VERIFIERS
from semcore.runtime.fingerprints import fingerprint

PROMPTS = {
    "generator": tuple(f"{direction.identify_prompt}.jinja" for direction in Direction),
    **{name: entry.prompt_files() for name, entry in VERIFIERS.items()},
}
"""Use of a model -> the prompts that it reads."""
TRAINED = ("generator", *verifier_registry.TRAINED)
"""Uses that a model of the run was trained for; the others use the captioner, or what a user has named."""


def prompts_of(names: Iterable[str], directions: Collection[Direction] = tuple(Direction)) -> dict[str, str]:
    """Return file name -> sha256 of the prompts in use for these models, without those of other directions."""
    sha256 = load_prompts().sha256
    others = tuple(f"_{direction}.jinja" for direction in Direction if direction not in directions)
    files = [file for name in names for file in PROMPTS.get(name, ()) if not file.endswith(others)]
    return {file: sha256[file] for file in files}


def require_trained_directions(models: Mapping[str, str], directions: Collection[Direction]) -> None:
    """Check that those models that a run has trained were trained for some directions.

    Args:
        models: "generator" and verifiers -> where they are.
        directions: that they are to be used in.

    Raises:
        UserError: one was trained for another direction only.
    """
    for name in TRAINED:
        if name in models:
            require_directions(models[name], directions)


def check_run_models(
    run: RunFolder,
    dataset: Dataset,
    models: Mapping[str, str],
    *,
    directions: Collection[Direction] = tuple(Direction),
    named: Collection[str] = (),
    base: str | Path | None = None,
    allow: Collection[str] = (),
) -> list[Mismatch]:
    """Check the models of a run that a command is about to load.

    Args:
        run: the run folder.
        dataset: what is searched.
        models: "generator", verifiers and "untrained" (what the listwise verifier began as) -> where they are.
        directions: that they are to be used in.
        named: those of them that a user has named, and which are not the run's own.
        base: where the run's base is now, should it have moved.
        allow: kinds to go on with although they differ.

    Returns:
        The mismatches that are allowed.

    Raises:
        UserError: something differs that is not allowed, or a model was trained for another direction only.
    """
    require_trained_directions(models, directions)
    return refuse_others(_find(run, dataset, models, named, base), allow)


def _find(
    run: RunFolder, dataset: Dataset, models: Mapping[str, str], named: Collection[str], base: str | Path | None
) -> list[Mismatch]:
    """Return the mismatches, model by model; arguments as in `check_run_models`."""
    found = []
    for name, place in models.items():
        if name in TRAINED:
            here = Surroundings(prompts_of([name], trained_directions(place)), run, dataset, base)
            found += find_mismatches(Path(place), here, must_say=True)
            continue
        found += find_mismatches(Path(place), Surroundings(base=base), must_say=False)
        if name == "untrained":
            found += _source(run, "base", "train_verifier", place)
        elif name not in named:
            found += _source(run, "captioner", "caption", place)
    return found


def check_search(
    run: RunFolder,
    dataset: Dataset,
    models: Mapping[str, str],
    named: Collection[str],
    base: str | Path | None,
    allow: Collection[str],
    *,
    fused: bool,
) -> list[Mismatch]:
    """Check the models of a search, and with fitted fusions those of the fit; otherwise as `check_run_models`."""
    found = _find(run, dataset, models, named, base)
    found += find_changes_since_fitting(run, models, prompts_of(models)) if fused else []
    return refuse_others(found, allow)


def check_verifier_start(
    run: RunFolder,
    dataset: Dataset,
    start: str,
    named: bool,
    base: Path | None,
    allow: Collection[str],
) -> list[Mismatch]:
    """Check the checkpoint that a verifier is trained from, and that the candidates' generator is the run's.

    Args:
        run: the run folder.
        dataset: the dataset of the training.
        start: the checkpoint to start from.
        named: the user has named it; it is neither the identifier model nor that model's base.
        base: the present path of an adapter's base, if it has moved.
        allow: kinds of mismatch that are allowed.

    Raises:
        UserError: there is a mismatch that is not allowed.
    """
    generator = run / "identifier_model"
    own = Path(start) == generator
    found = []
    if generator.is_dir():
        kinds = KINDS if own else ("identifiers", "data")
        found += find_mismatches(generator, Surroundings(run=run, dataset=dataset, base=base), kinds, must_say=True)
    if not own:
        found += find_mismatches(Path(start), Surroundings(base=base), must_say=False)
        found += [] if named else _source(run, "base", "train_identifier", start)
    return refuse_others(found, allow)


def _source(run: RunFolder, kind: Kind, stage: str, place: str) -> list[Mismatch]:
    """Compare a checkpoint with a stage's record of it."""
    recorded, found = source_fingerprint(run, stage) or "", fingerprint(place)
    subject = {"captioner": "the model that wrote the captions", "base": "the base"}[kind]
    return [] if recorded == found else [Mismatch(str(run.path), kind, f"{subject}, {place},", recorded, found)]
