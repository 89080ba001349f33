"""Verifiers by name: each scores every candidate of a shortlist."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.models.inference import Dtype, load_for_inference
from semcore.models.verifier_registry import VERIFIERS, VerifierName
from semcore.retrieval.shortlist import Shortlist, question_of
from semcore.runtime.resumable import RunStep, run_at_once
from semcore.verification import Pair, load_verifier

K = TypeVar("K")


def open_verifier(
    verifier: VerifierName,
    checkpoint: str,
    dataset: Dataset,
    features: Path | None,
    *,
    dtype: Dtype = "auto",
    device: str | None = None,
    base: str | Path | None = None,
) -> Any:
    """Load a verifier's checkpoint as the session that `verifier_scores` takes.

    Args:
        verifier: whose.
        checkpoint: a folder or a hub id.
        dataset: holds the images.
        features: RUN/features, the feature store; None stores nothing.
        dtype: precision of a model that reads prompts.
        device: the fastest one by default.
        base: present path of an adapter's base, if it has moved.

    Raises:
        UserError: it cannot be loaded, or is no checkpoint for this verifier.
    """
    load = loader_of(verifier)
    if load is not None:
        return load(checkpoint, dataset, device)
    return load_verifier(load_for_inference(checkpoint, dtype=dtype, device=device, base=base), dataset, features)


def verifier_scores(
    verifier: VerifierName,
    session: Any,
    direction: Direction,
    shortlists: Sequence[Shortlist],
    *,
    num_shifts: int = 1,
) -> list[list[float]]:
    """Return a verifier's score of each candidate of each shortlist.

    Args:
        verifier: which one; the scores of different verifiers cannot be compared.
        session: from `open_verifier`.
        direction: "t2i" or "i2t".
        shortlists: queries with their candidates.
        num_shifts: cyclic shifts of the candidates; only a verifier that reads them in an order can shift it.

    Raises:
        KeyError: there is no such verifier.
    """
    entry = VERIFIERS[verifier]
    if entry.scores == "pairs":
        return pair_scores(verifier, session, {direction: shortlists}, lambda key: key)[direction]
    further = {"num_shifts": num_shifts} if entry.ordered else {}
    scores: list[list[float]] = scorer_of(verifier)(
        session, direction, [question_of(shortlist) for shortlist in shortlists], **further
    )
    return scores


def pair_scores(
    verifier: VerifierName,
    session: Any,
    shortlists: Mapping[K, Sequence[Shortlist]],
    direction_of: Callable[[K], Direction],
    run: RunStep = run_at_once,
) -> dict[K, list[list[float]]]:
    """Return the scores of all candidates of several sets of shortlists; no pair is scored twice.

    Args:
        verifier: one that scores pairs.
        session: from `open_verifier`.
        shortlists: the sets, by any key.
        direction_of: returns a key's direction.
        run: runs the verifier's steps.
    """
    pairs = {key: [pairs_of(direction_of(key), shortlist) for shortlist in own] for key, own in shortlists.items()}
    flat = (pair for rows in pairs.values() for row in rows for pair in row)
    scores: Mapping[Pair, float] = scorer_of(verifier)(session, flat, run)
    return {key: [[scores[pair] for pair in row] for row in rows] for key, rows in pairs.items()}


def scorer_of(verifier: VerifierName) -> Callable[..., Any]:
    """Return the function that scores for a verifier, as the registry describes it."""
    file, _, name = VERIFIERS[verifier].score.partition(":")
    return _find(file, name)


def loader_of(verifier: VerifierName) -> Callable[..., Any] | None:
    """Return the function that opens a verifier's checkpoint; None for a model session."""
    file, _, _ = VERIFIERS[verifier].score.partition(":")
    return _find(file, VERIFIERS[verifier].load) if VERIFIERS[verifier].load else None


def _find(file: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(import_module(f"semcore.verification.{file}"), name)
    return found


def pairs_of(direction: Direction, shortlist: Shortlist) -> list[Pair]:
    """Return the image and the sentence that a query makes with each of its candidates."""
    query = shortlist.query
    if direction.queries_are_images:
        return [Pair(query, item.text) for item in shortlist.items]
    return [Pair(item.image_id, query) for item in shortlist.items]
