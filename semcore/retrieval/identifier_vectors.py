"""Vectors that codes are made of: of captions, of a CLIP or SigLIP checkpoint, or of the model's own visual features.

RUN/identifiers/projection.safetensors    {"mean" (V*H), "directions" (256, V*H)}, of visual features in a row

Shapes: N images, M sentences, d dimensions, V visual tokens of size H; a vector's length is sqrt(d).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from semcore.data.caption_files import TextItem
from semcore.identifiers.scheme import Vectors
from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.dual_encoder import DualEncoder, load_dual_encoder
from semcore.models.inference import default_device
from semcore.models.visual_features import FeatureStore
from semcore.retrieval.dense import open_stored
from semcore.runtime.errors import UserError

CAPTION, MODEL = "caption", "model"
FLATTENED = 256  # ours: of tokens in a row so many principal components are kept
PROJECTION = "projection.safetensors"
Projection = Mapping[str, np.ndarray]


@dataclass
class VectorSource:
    """What makes vectors of items; models are loaded at their first use and stay loaded.

    Attributes:
        source: "caption", "model", or a CLIP or SigLIP checkpoint.
        pool: with "model", "mean" over an image's visual tokens, or "flatten", all in a row, reduced to 256.
        embed_texts: texts -> vectors of any length, one a row.
        model: returns where the model of "model" is.
        features: RUN/features, which keeps visual features.
        device: of the encoders; the fastest one by default.
        projection: what reduces tokens in a row; `of` fits it where it is not known yet.
    """

    source: str
    pool: str
    embed_texts: Callable[[Sequence[str]], np.ndarray]
    model: Callable[[], str]
    features: Path
    device: str | None = None
    projection: Projection | None = None

    @cached_property
    def dual_encoder(self) -> DualEncoder:
        """The CLIP or SigLIP checkpoint."""
        return load_dual_encoder(self.source, self.device, "--vectors takes caption, model, and")

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model whose visual features are pooled."""
        return load_checkpoint(self.model(), device=self.device or default_device())

    def of(
        self,
        captions: Sequence[TextItem],
        sentences: Sequence[TextItem],
        pictures: Mapping[str, Path],
        fitted: Sequence[int] = (),
    ) -> Vectors:
        """Return the vectors of images (N, d) and sentences (M, d); visual features have none of sentences.

        Args:
            captions: of N images.
            sentences: M of them.
            pictures: image id -> file.
            fitted: the places of the images that a projection may be fitted on.

        Raises:
            UserError: the checkpoint is no CLIP or SigLIP, an image cannot be read, or images have different numbers
                of visual tokens.
        """
        ids = [item.item_id for item in captions]
        if self.source == CAPTION:
            made = scaled(self.embed_texts([item.text for item in [*captions, *sentences]]))
            return Vectors(made[: len(captions)], made[len(captions) :])
        if self.source == MODEL:
            return Vectors(scaled(self._pooled(ids, pictures, fitted)), None)
        images = self.dual_encoder.pictures(ids, lambda image_id: open_stored(pictures[image_id]))
        texts = self.dual_encoder.texts([item.text for item in sentences])
        return Vectors(scaled(images), scaled(texts if len(texts) else np.empty((0, images.shape[1]))))

    def _pooled(self, ids: Sequence[str], pictures: Mapping[str, Path], fitted: Sequence[int]) -> np.ndarray:
        """Return one vector an image (N, d)."""
        store = FeatureStore(self.checkpoint, pictures, self.features)
        store.add(ids)
        found = store.of(ids)
        features = [found[image_id].float().numpy() for image_id in ids]
        if self.pool == "mean":
            return np.stack([own.mean(axis=0) for own in features])
        rows = in_a_row(features)
        if self.projection is None:
            self.projection = fit_projection(rows[list(fitted)])
        return project(rows, self.projection)


def scaled(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (N, d) of length sqrt(d), float32; a zero vector stays zero."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors / lengths * np.sqrt(vectors.shape[1]), np.float32)


def in_a_row(features: Sequence[np.ndarray]) -> np.ndarray:
    """Return each image's visual tokens (V, H) in a row, (N, V*H).

    Raises:
        UserError: the images have different numbers of tokens.
    """
    counts = {len(own) for own in features}
    if len(counts) > 1:
        raise UserError(
            f"--vectors-pool flatten needs equally many visual tokens of every image, found {min(counts)} to "
            f"{max(counts)}: choose --vectors-pool mean"
        )
    return np.stack([own.ravel() for own in features])


def fit_projection(rows: np.ndarray) -> Projection:
    """Return mean (D,) and first principal components (at most 256, D) of rows (N, D)."""
    mean = rows.mean(axis=0)
    _, _, directions = np.linalg.svd(rows - mean, full_matrices=False)
    return {"mean": mean, "directions": directions[:FLATTENED]}


def project(rows: np.ndarray, projection: Projection) -> np.ndarray:
    """Return rows (N, D) along the principal components, (N, at most 256).

    Raises:
        UserError: the images have another number of visual tokens than those that it was fitted on.
    """
    mean, directions = projection["mean"], projection["directions"]
    if rows.shape[1] != len(mean):
        raise UserError(
            f"the vectors of these identifiers are visual tokens in a row, {len(mean)} numbers an image, and these "
            f"images have {rows.shape[1]}: give pictures of the same shape"
        )
    return (rows - mean) @ directions.T


def load_projection(folder: Path) -> Projection:
    """Read the projection of RUN/identifiers.

    Raises:
        UserError: the file is missing or broken.
    """
    try:
        found = load_file(folder / PROJECTION)
        return {"mean": found["mean"], "directions": found["directions"]}
    except (OSError, KeyError, SafetensorError):
        raise UserError(f"{folder / PROJECTION} holds no projection; make the identifiers again") from None
