"""Opening of a trained run for searches: settings and models are checked before anything is loaded."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from semcore.data.corpus_changes import read_changes, with_added_images
from semcore.data.dataset import SPLITS, load_dataset
from semcore.data.run_folder import RunFolder
from semcore.models.inference import Dtype, load_for_inference
from semcore.models.lineage import trained_directions
from semcore.models.run_checkpoints import generator_of
from semcore.models.run_lineage import TRAINED, check_search
from semcore.models.session import load_session
from semcore.models.verifier_registry import VERIFIERS, VerifierName
from semcore.retrieval.generator import Engine
from semcore.retrieval.opened_run import OpenedRun
from semcore.retrieval.prior_settings import PriorChoice, prior_settings_of
from semcore.retrieval.search_settings import SearchSettings, search_settings_of
from semcore.retrieval.verifier_choice import choose_verifier, verifier_model
from semcore.runtime.errors import UserError
from semcore.verification import LETTERS

logger = logging.getLogger(__name__)
Opened = TypeVar("Opened", bound=OpenedRun)


def open_run(
    run: str | Path,
    *,
    data: str | Path | None,
    split: str,
    verifier: VerifierName,
    num_beams: int,
    num_candidates: int,
    dtype: Dtype,
    device: str | None,
    engine: Engine,
    base: str | Path | None,
    allow_mismatch: Collection[str],
    prior_weight: PriorChoice,
    plain: bool,
) -> OpenedRun:
    """Open a trained run; arguments and errors are those of `semcore.retrieval.retriever.Retriever.from_run`."""
    if split not in (*SPLITS, "all"):
        raise UserError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)} or all")
    folder = RunFolder(run)
    dataset = load_dataset(data or folder.data_folder())
    chosen, fusion_settings = choose_verifier(folder, verifier)
    _check_num_candidates(num_candidates, chosen)
    models = {"generator": generator_of(folder)}
    if chosen != "none":
        models[chosen] = verifier_model(folder, chosen, fusion_settings, base)
    mismatches = check_search(
        folder, dataset, models, fusion_settings.models, base, allow_mismatch, fused=bool(fusion_settings.fusions)
    )
    for mismatch in mismatches:
        logger.warning("going on although %s", mismatch)
    model = load_for_inference(models["generator"], dtype=dtype, device=device, base=base)
    changes = read_changes(folder)
    generator = load_session(model, with_added_images(folder, dataset, changes), folder / "features")
    only = None if split == "all" else split
    sides = SearchSettings() if plain else search_settings_of(folder, engine)
    return OpenedRun(
        folder, dataset, generator, chosen, fusion_settings, only, num_beams, num_candidates, dtype, device, engine,
        base, mismatches, prior_settings_of(folder, prior_weight, engine), sides, changes,
    )  # fmt: skip


def with_verifier(opened: Opened, wish: VerifierName, allow_mismatch: Collection[str]) -> Opened:
    """Return a run with another verifier, its model checked against the run.

    Args:
        opened: the run; a verifier that it has already stays.
        wish: as in `Retriever.from_run`.
        allow_mismatch: kinds of lineage mismatch that are allowed.

    Raises:
        UserError: there is no such verifier, its model is not trained or not found, or there is a lineage mismatch.
    """
    chosen, fusion_settings = choose_verifier(opened.run, wish)
    if chosen == opened.verifier:
        return opened
    models = {"generator": generator_of(opened.run)}
    if chosen != "none":
        models[chosen] = verifier_model(opened.run, chosen, fusion_settings, opened.base)
    mismatches = check_search(
        opened.run, opened.dataset, models, fusion_settings.models, opened.base, allow_mismatch,
        fused=bool(fusion_settings.fusions),
    )  # fmt: skip
    corpora = opened._corpora
    if chosen in TRAINED:  # elsewhere a corpus is built anew, and then refused
        trained = trained_directions(models[chosen])
        corpora = {direction: own for direction, own in corpora.items() if direction in trained}
    return replace(
        opened, verifier=chosen, fusion_settings=fusion_settings, mismatches=mismatches, _corpora=corpora,
        _verifier_session=None,
    )  # fmt: skip


def _check_num_candidates(num_candidates: int, verifier: VerifierName) -> None:
    lettered = verifier in VERIFIERS and VERIFIERS[verifier].ordered
    if num_candidates < (1 if verifier == "none" else 2) or (lettered and num_candidates > len(LETTERS)):
        most = f"from 2 to {len(LETTERS)}" if lettered else "2 or more"
        raise UserError(f"num_candidates must be {most}, found {num_candidates}")
