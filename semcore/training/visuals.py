"""Where a batch's images come from: features that were encoded once, or pixels that go through.

Features are exact, and possible where neither the vision tower nor the projector is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftModel
from PIL import Image
from tqdm import tqdm
from transformers.modeling_outputs import BaseModelOutputWithPooling

from semcore.checkpoint import Checkpoint
from semcore.dataset import open_image
from semcore.errors import UnreadableImage, UserError
from semcore.features import encode_pictures
from semcore.inputs import prepare_images

ORIENTATION = 0x0112  # the EXIF tag; from 5 on, width and height change places


class Visuals(Protocol):
    """What the collator asks for."""

    @property
    def filler(self) -> str | None:
        """The image that a batch without images gets, so that all processes run the vision tower together."""

    def __contains__(self, image_id: str) -> bool:
        """Tell whether an image can be shown."""

    def num_tokens(self, image_id: str) -> int:
        """Return how many tokens an image takes in a prompt."""

    def model_inputs(self, image_ids: Sequence[str]) -> dict[str, Any]:
        """Return what the model takes for these images, in the order of their tokens."""


@dataclass(frozen=True)
class StoredFeatures:
    """Images that have been through the vision tower and the projector; image id -> (V, H)."""

    features: Mapping[str, torch.Tensor]
    filler: str | None = None

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.features

    def num_tokens(self, image_id: str) -> int:
        """Return how many features an image has."""
        return len(self.features[image_id])

    def model_inputs(self, image_ids: Sequence[str]) -> dict[str, Any]:
        """Return features for the model to put in place of the image tokens."""
        if not image_ids:
            return {}
        features = torch.cat([self.features[image_id] for image_id in image_ids])
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features)}}


@dataclass(frozen=True)
class Pixels:
    """Images that go through the vision tower at every step; image id -> file."""

    checkpoint: Checkpoint
    paths: Mapping[str, Path]

    @property
    def filler(self) -> str | None:
        """Return the first image that can be read."""
        return next((image_id for image_id in self.paths if image_id in self), None)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.paths and _size(self.paths[image_id]) is not None

    def num_tokens(self, image_id: str) -> int:
        """Return how many features an image will have, from its size alone."""
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
    checkpoint: Checkpoint, paths: Mapping[str, Path], *, frozen: bool, device: torch.device | str, progress: bool
) -> Visuals:
    """Return the images as features where vision tower and projector are frozen, else as pixels.

    Args:
        checkpoint: before LoRA is put on.
        paths: image id -> file.
        frozen: neither the vision tower nor the projector is trained.
        device: where the vision tower runs once.
        progress: show a progress bar.
    """
    return encode_once(checkpoint, paths, device=device, progress=progress) if frozen else Pixels(checkpoint, paths)


def encode_once(
    checkpoint: Checkpoint,
    paths: Mapping[str, Path],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: bool = False,
) -> StoredFeatures:
    """Encode images with the frozen vision tower and projector, and keep the features in memory.

    Unreadable images are left out.

    Args:
        checkpoint: whose vision tower looks at them.
        paths: image id -> file.
        device: where the vision tower runs; the features come back to the CPU.
        batch_size: images encoded at once.
        progress: show a progress bar.

    Raises:
        UserError: no image can be read.
    """
    model: Any = checkpoint.model.get_base_model() if isinstance(checkpoint.model, PeftModel) else checkpoint.model
    model.model.vision_tower.to(device)
    model.model.multi_modal_projector.to(device)
    features: dict[str, torch.Tensor] = {}
    pending: dict[str, Image.Image] = {}
    for number, (image_id, path) in enumerate(tqdm(paths.items(), "encoding images", disable=not progress), start=1):
        picture = _open(path)
        if picture is not None:
            pending[image_id] = picture
        if len(pending) == batch_size or number == len(paths):
            encoded = encode_pictures(checkpoint, list(pending.values()))
            features.update(zip(pending, (own.cpu() for own in encoded), strict=True))
            pending.clear()
    if paths and not features:
        raise UserError(f"none of the {len(paths)} training images can be read, {next(iter(paths.values()))} the first")
    return StoredFeatures(features)


def _size(path: Path) -> tuple[int, int] | None:
    """Return the width and height of an image file, turned as its EXIF data says; None if it is none."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            return (height, width) if picture.getexif().get(ORIENTATION, 1) >= 5 else (width, height)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _open(path: Path) -> Image.Image | None:
    try:
        return open_image(path)
    except UnreadableImage:
        return None
