"""Model sessions: a loaded checkpoint with its prompts and the visual features of its images.

Shapes: V visual tokens per image, H the text model's hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import torch
from PIL import Image

from semcore.data.dataset import Dataset
from semcore.models.batching import Prompt, make_prompts
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import Prompts, load_prompts
from semcore.models.visual_features import FeatureStore, encode_pictures


class ImageFeatures(Protocol):
    """Visual features (V, H) by image id; `FeatureStore` has those of a dataset."""

    def add(self, image_ids: Iterable[str], *, progress: bool = False) -> None:
        """Store the features of these images, where there is a store."""

    def of(self, image_ids: Iterable[str]) -> Mapping[str, torch.Tensor]:
        """Return image id -> features (V, H)."""


class FeaturesInMemory(dict[str, torch.Tensor]):
    """Visual features (V, H) by image id, of images that are already encoded."""

    def add(self, image_ids: Iterable[str], *, progress: bool = False) -> None:
        """Do nothing: all images are encoded."""

    def of(self, image_ids: Iterable[str]) -> dict[str, torch.Tensor]:
        """Return image id -> features (V, H)."""
        return {image_id: self[image_id] for image_id in image_ids}


@dataclass(frozen=True)
class ModelSession:
    """A loaded checkpoint with its prompts and visual features.

    Attributes:
        checkpoint: the model, its tokenizer and its image processor.
        prompts: its prompts.
        features: visual features of the images.
    """

    checkpoint: Checkpoint
    prompts: Prompts
    features: ImageFeatures

    def make_prompts(self, turns: Sequence[str], image_ids: Sequence[Sequence[str]]) -> list[Prompt]:
        """Tokenize users' turns in the checkpoint's chat template, with the features of the images in them.

        Args:
            turns: from `prompts.render`.
            image_ids: the images of each turn, in the order of the turn.
        """
        shown = [image_id for own in image_ids for image_id in own]
        features = self.features.of(shown) if shown else {}
        return make_prompts(self.checkpoint, turns, [[features[image_id] for image_id in own] for own in image_ids])

    def with_pictures(self, pictures: Mapping[str, Image.Image]) -> Self:
        """Return the session with images in memory, by their ids, in place of the dataset's images.

        Without such images it is the session itself.
        """
        if not pictures:
            return self
        features = encode_pictures(self.checkpoint, list(pictures.values()))
        return replace(self, features=FeaturesInMemory(zip(pictures, features, strict=True)))

    def with_files(self, paths: Mapping[str, Path], features: Path | None) -> Self:
        """Return the session with other images, by their ids.

        Args:
            paths: image id -> file.
            features: RUN/features, the feature store; None stores nothing.
        """
        return replace(self, features=FeatureStore(self.checkpoint, paths, features))


def load_session(checkpoint: Checkpoint, dataset: Dataset, features: Path | None) -> ModelSession:
    """Make a session of a checkpoint, with the prompts and the images of a dataset.

    Args:
        checkpoint: the model.
        dataset: the dataset with the images.
        features: RUN/features, the feature store; None stores nothing.
    """
    prompts = load_prompts(special_tokens=checkpoint.special_tokens)
    return ModelSession(checkpoint, prompts, FeatureStore(checkpoint, dataset.image_paths, features))
