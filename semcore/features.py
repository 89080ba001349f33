"""Images through the vision tower and the projector, once each: what a prompt's image tokens become.

Shapes: V visual tokens an image (tiles x tokens a tile), H the text model's hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from semcore.checkpoint import Checkpoint
from semcore.dataset import open_image
from semcore.errors import UnreadableImage, UserError
from semcore.inputs import prepare_images


@torch.inference_mode()
def encode_pictures(checkpoint: Checkpoint, pictures: Sequence[Image.Image]) -> list[torch.Tensor]:
    """Return the visual features of pictures in memory, each (V, H), on the model's device."""
    tiles = prepare_images(checkpoint, pictures)
    if not tiles:
        return []
    pixels = torch.cat(tiles).to(checkpoint.device, checkpoint.model.dtype)
    features = checkpoint.model.get_image_features(pixel_values=pixels).pooler_output
    return [own.flatten(0, 1) for own in features.split([len(own) for own in tiles])]


def encode_images(
    checkpoint: Checkpoint, images: Mapping[str, Path], *, batch_size: int = 32, progress: bool = False
) -> dict[str, torch.Tensor]:
    """Return the visual features of image files by their ids, each (V, H), on the model's device.

    Args:
        checkpoint: whose vision tower looks at them.
        images: image id -> file.
        batch_size: images opened and encoded at once.
        progress: show a progress bar.

    Raises:
        UnreadableImage: a file is no picture.
    """
    ids = list(images)
    features: dict[str, torch.Tensor] = {}
    with tqdm(total=len(ids), desc="encoding images", unit="image", disable=not progress) as bar:
        for start in range(0, len(ids), batch_size):
            chosen = ids[start : start + batch_size]
            encoded = encode_pictures(checkpoint, [open_image(images[image_id]) for image_id in chosen])
            features.update(zip(chosen, encoded, strict=True))
            bar.update(len(chosen))
    return features


class ImageFeatures:
    """Visual features that are encoded when they are first asked for, and kept.

    Args:
        checkpoint: whose vision tower looks at the images.
        paths: image id -> file.
        batch_size: images encoded at once.
    """

    def __init__(self, checkpoint: Checkpoint, paths: Mapping[str, Path], batch_size: int = 32):
        self._checkpoint, self._paths, self._batch_size = checkpoint, paths, batch_size
        self._kept: dict[str, torch.Tensor] = {}

    def of(self, image_ids: Iterable[str]) -> dict[str, torch.Tensor]:
        """Return image id -> features (V, H).

        Raises:
            UserError: an image cannot be read.
        """
        wanted = list(dict.fromkeys(image_ids))
        missing = {image_id: self._paths[image_id] for image_id in wanted if image_id not in self._kept}
        try:
            self._kept.update(encode_images(self._checkpoint, missing, batch_size=self._batch_size))
        except UnreadableImage as error:
            raise UserError(
                f"an image that has a caption cannot be read now ({error}); is the dataset whole?"
            ) from None
        return {image_id: self._kept[image_id] for image_id in wanted}
