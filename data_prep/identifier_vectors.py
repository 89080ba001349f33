"""Vectors that codes are made of: of captions, of a CLIP or SigLIP checkpoint, or of the model's own visual features.

Shapes: N images, M sentences, d dimensions; a vector's length is sqrt(d).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from semcore.data.caption_files import TextItem
from semcore.data.dataset import Dataset
from semcore.data.run_folder import RunFolder
from semcore.identifiers.scheme import Vectors
from semcore.models.run_checkpoints import generator_start_of
from semcore.runtime.errors import UserError

EmbedTexts = Callable[[Sequence[str]], np.ndarray]
FLATTENED = 256  # ours: of tokens in a row so many principal components are kept


def make_vectors(
    source: str,
    pool: str,
    run: RunFolder,
    dataset: Dataset,
    captions: Sequence[TextItem],
    sentences: Sequence[TextItem],
    fitted: Sequence[int],
    embed_texts: EmbedTexts,
    device: str | None,
) -> Vectors:
    """Return the vectors of images and sentences.

    Args:
        source: "caption", "model", or a CLIP or SigLIP checkpoint.
        pool: with "model", "mean" over an image's visual tokens, or "flatten", all in a row, reduced to 256.
        run: keeps visual features, and knows the model that captioned.
        dataset: holds the images.
        captions: of the images.
        sentences: the sentences.
        fitted: the places of the images that may be learnt from.
        embed_texts: texts -> vectors of any length, one a row.
        device: of the encoders.

    Raises:
        UserError: the checkpoint is no CLIP or SigLIP, or an image cannot be read.
    """
    if source == "caption":
        made = embed_texts([item.text for item in [*captions, *sentences]])
        return Vectors(scaled(made[: len(captions)]), scaled(made[len(captions) :]))
    if source == "model":
        return Vectors(_of_model(run, dataset, captions, fitted, pool, device), None)
    from semcore.evaluation.dense_baselines import dual_encoder

    encoder = dual_encoder(source, dataset, device)
    images = encoder.images([item.item_id for item in captions])
    texts = encoder.texts([item.text for item in sentences]) if sentences else np.empty((0, images.shape[1]))
    return Vectors(scaled(images), scaled(texts))


def scaled(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (N, d) of length sqrt(d), float32; a zero vector stays zero."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors / lengths * np.sqrt(vectors.shape[1]), np.float32)


def pooled(features: Sequence[np.ndarray], fitted: Sequence[int], pool: str) -> np.ndarray:
    """Return one vector an image (N, d) of its visual tokens (V, H).

    Args:
        features: of each image.
        fitted: the places of those that principal components are found of.
        pool: "mean", or "flatten", which keeps what is where; it needs equally many tokens of every image.

    Raises:
        UserError: the images have different numbers of tokens.
    """
    if pool == "mean":
        return np.stack([own.mean(axis=0) for own in features])
    counts = {len(own) for own in features}
    if len(counts) > 1:
        raise UserError(
            f"--vectors-pool flatten needs equally many visual tokens of every image, found {min(counts)} to "
            f"{max(counts)}: choose --vectors-pool mean"
        )
    rows = np.stack([own.ravel() for own in features])
    mean = rows[list(fitted)].mean(axis=0)
    _, _, directions = np.linalg.svd(rows[list(fitted)] - mean, full_matrices=False)
    return (rows - mean) @ directions[:FLATTENED].T


def _of_model(
    run: RunFolder, dataset: Dataset, captions: Sequence[TextItem], fitted: Sequence[int], pool: str, device: str | None
) -> np.ndarray:
    from semcore.models.checkpoint import load_checkpoint
    from semcore.models.inference import default_device
    from semcore.models.visual_features import FeatureStore

    checkpoint = load_checkpoint(generator_start_of(run), device=device or default_device())
    store = FeatureStore(checkpoint, dataset.image_paths, run / "features")
    ids = [item.item_id for item in captions]
    store.add(ids)
    found = store.of(ids)
    features = [found[image_id].float().numpy() for image_id in ids]
    return scaled(pooled(features, fitted, pool))
