"""Image inputs of a batch: stored features where the vision tower is frozen, else pixels.

Features are exact wherever the vision tower is frozen: the projector's output where the projector is
frozen too, else the vision tower's. Shapes: V visual tokens per image, H the text model's hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from semcore.data.images import image_size, open_image, verify_image
from semcore.models.checkpoint import Checkpoint
from semcore.models.tokenization import prepare_images
from semcore.models.vision_tower import Layer
from semcore.models.visual_features import THREADS, FeatureStore
from semcore.runtime.errors import UnreadableImage, UserError
from semcore.runtime.peft_models import without_adapter
from semcore.runtime.typed_commands import data_command


class Visuals(Protocol):
    """Interface of the collator to images."""

    @property
    def filler(self) -> str | None:
        """Return the image for batches without images, so that all processes run the same modules together."""

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Return image id -> why it cannot be used."""

    def __contains__(self, image_id: str) -> bool:
        """Return whether an image can be used."""

    def num_tokens(self, image_id: str) -> int:
        """Return the number of an image's tokens in a prompt."""

    def model_inputs(self, image_ids: Sequence[str]) -> dict[str, Any]:
        """Return the model's arguments for these images, in the order of their tokens."""


@dataclass(frozen=True)
class StoredFeatures:
    """Outputs of the vision tower and the projector: image id -> (V, H)."""

    features: Mapping[str, torch.Tensor]
    filler: str | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.features

    def num_tokens(self, image_id: str) -> int:
        """Return the number of an image's features, V."""
        return len(self.features[image_id])

    def model_inputs(self, image_ids: Sequence[str]) -> dict[str, Any]:
        """Return features, which the model inserts in place of the image tokens."""
        if not image_ids:
            return {}
        features = torch.cat([self.features[image_id] for image_id in image_ids])
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features)}}


@dataclass(frozen=True)
class TowerStates:
    """Outputs of the vision tower alone: image id -> (tiles, patches + 1, the tower's width).

    The model accepts them in place of pixels inside `use_precomputed_vision_states`.
    """

    states: Mapping[str, torch.Tensor]
    tokens_a_tile: int
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def filler(self) -> str | None:
        """Return the first image."""
        return next(iter(self.states), None)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.states

    def num_tokens(self, image_id: str) -> int:
        """Return the number of features that the projector makes of an image, V."""
        return len(self.states[image_id]) * self.tokens_a_tile

    def model_inputs(self, image_ids: Sequence[str]) -> dict[str, Any]:
        """Return the projector's input."""
        if not image_ids:
            return {}
        return {"pixel_values": torch.cat([self.states[image_id] for image_id in image_ids])}


@dataclass(frozen=True)
class Pixels:
    """Images that are encoded at every step: image id -> file."""

    checkpoint: Checkpoint
    paths: Mapping[str, Path]

    @cached_property
    def unreadable(self) -> dict[str, str]:
        """Return image id -> why it cannot be read; all are decoded once, or one could stop the training midway."""
        with ThreadPoolExecutor(THREADS) as pool:
            reasons = pool.map(_reason, self.paths.values())
            return {image_id: reason for image_id, reason in zip(self.paths, reasons, strict=True) if reason}

    @property
    def filler(self) -> str | None:
        """Return the first image that can be read."""
        return next((image_id for image_id in self.paths if image_id in self), None)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.paths and image_id not in self.unreadable

    def num_tokens(self, image_id: str) -> int:
        """Return the number of features that an image will have, V, from its size alone."""
        width, height = _size(self.paths[image_id]) or (1, 1)
        tiles = self.checkpoint.image_processor.get_number_of_image_patches(height, width, {})
        return tiles * self.checkpoint.model.config.image_seq_length

    def model_inputs(self, image_ids: Sequence[str]) -> dict[str, Any]:
        """Return pixels for the vision tower."""
        if not image_ids:
            return {}
        pictures = [open_image(self.paths[image_id]) for image_id in image_ids]
        return {"pixel_values": torch.cat(prepare_images(self.checkpoint, pictures))}


def load_visuals(
    checkpoint: Checkpoint,
    paths: Mapping[str, Path],
    folder: Path | None,
    *,
    freeze_vision: bool,
    freeze_projector: bool,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Visuals:
    """Return the images with as much precomputed as the frozen modules allow.

    Images that cannot be read are left out.

    Args:
        checkpoint: the checkpoint, without LoRA.
        paths: image id -> file.
        folder: RUN/features, the feature store; None leaves all images as pixels.
        freeze_vision: the vision tower is not trained.
        freeze_projector: nor is the projector.
        dtype: precision of the computation.
        device: the device that computes the features.
        progress: show a progress bar.

    Raises:
        UserError: an image is missing, or none can be read.
    """
    if folder is None or not freeze_vision:
        pixels = Pixels(checkpoint, paths)
        _check_readable(paths, pixels.unreadable)
        return pixels
    layer: Layer = "projector" if freeze_projector else "vision tower"
    store = FeatureStore(checkpoint, paths, folder, layer=layer, dtype=dtype, device=device)
    store.add(paths, progress=progress)
    _check_readable(paths, store.failed)
    if freeze_projector:
        return StoredFeatures(store, unreadable=store.failed)
    return TowerStates(store, checkpoint.model.config.image_seq_length, store.failed)


def _check_readable(paths: Mapping[str, Path], unreadable: Mapping[str, str]) -> None:
    """Check that no image is missing, and that at least one can be read."""
    gone = [image_id for image_id in unreadable if not paths[image_id].exists()]
    if gone:
        first = paths[gone[0]]
        raise UserError(
            f"{len(gone)} of the {len(paths)} training images have gone, {first} the first; put them back, "
            f"or look with `{data_command('check', first.parent.parent)}`"
        )
    if paths and len(unreadable) == len(paths):
        raise UserError(f"none of the {len(paths)} training images can be read, {next(iter(paths.values()))} the first")


@contextmanager
def use_precomputed_vision_states(model: Any, visuals: Visuals) -> Iterator[None]:
    """Let a model take states of its vision tower as `pixel_values`, where `visuals` holds these."""
    if not isinstance(visuals, TowerStates):
        yield
        return
    base: Any = without_adapter(model)
    tower = base.model.vision_tower
    tower.forward = _as_seen
    try:
        yield
    finally:
        del tower.forward


def _as_seen(pixel_values: torch.Tensor, **_: Any) -> BaseModelOutputWithPooling:
    return BaseModelOutputWithPooling(last_hidden_state=pixel_values)


def _reason(path: Path) -> str:
    try:
        verify_image(path)
    except UnreadableImage as error:
        return str(error)
    return ""


def _size(path: Path) -> tuple[int, int] | None:
    """Return the width and height of an image file, after its EXIF orientation; None if it is no image."""
    try:
        return image_size(path)
    except UnreadableImage:
        return None
