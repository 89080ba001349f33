"""Verification by a dual encoder, CLIP or SigLIP: the cosine of sentence and picture, times the checkpoint's scale.

Shapes: d dimensions of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from semcore.data.dataset import Dataset
from semcore.models.dual_encoder import DualEncoder, load_dual_encoder
from semcore.runtime.resumable import RunStep, run_at_once
from semcore.verification.image_text_pairs import PairSession, score_pairs
from semcore.verification.likelihood import Pair


def load(checkpoint: str, dataset: Dataset, device: str | None = None) -> PairSession:
    """Open a CLIP or SigLIP checkpoint.

    Args:
        checkpoint: a folder or a hub id.
        dataset: holds the images.
        device: the fastest one by default.

    Raises:
        UserError: it cannot be loaded, or is neither of them.
    """
    return PairSession.of(load_dual_encoder(checkpoint, device, "--dual-model takes"), dataset)


def similarities(session: PairSession, pairs: Iterable[Pair], run: RunStep = run_at_once) -> dict[Pair, float]:
    """Return cosine times scale of every pair: what its softmax was trained with (CLIP), or its logit (SigLIP).

    SigLIP's bias is left out: it is the same for all pairs. Images and sentences are read once in a session.

    Args:
        session: from `load`.
        pairs: in any order, possibly with repetitions.
        run: runs the step "dual".
    """
    encoder: DualEncoder = session.model

    def score(chunk: list[tuple[str, list[str]]]) -> list[list[float]]:
        images = [image_id for image_id, _ in chunk if ("image", image_id) not in session.kept]
        texts = sorted({text for _, own in chunk for text in own if ("text", text) not in session.kept})
        _keep(session, "image", images, encoder.pictures(images, session.picture))
        _keep(session, "text", texts, encoder.texts(texts))
        return [
            [encoder.scale * float(session.kept["image", image_id] @ session.kept["text", text]) for text in own]
            for image_id, own in chunk
        ]

    return score_pairs("dual", pairs, run, score)


def _keep(session: PairSession, kind: str, names: list[str], vectors: np.ndarray) -> None:
    """Keep vectors (names, d) for later chunks."""
    session.kept.update({(kind, name): vector for name, vector in zip(names, vectors, strict=False)})
