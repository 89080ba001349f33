"""Model sessions: a loaded checkpoint with its prompts and visual features."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import Prompts, load_prompts
from semcore.models.visual_features import FeatureStore
from semcore.retrieval.shortlist import Shortlist
from semcore.verification import BlockReader, read_attention


class ModelSession(NamedTuple):
    """A model that is asked: with its prompts, and the images as it sees them."""

    checkpoint: Checkpoint
    prompts: Prompts
    features: FeatureStore
    blocks: BlockReader | None = None
    """Reads questions in candidate blocks, where the model was trained to choose so."""


def load_session(checkpoint: Checkpoint, dataset: Dataset, features: Path | None) -> ModelSession:
    """Put a checkpoint together with the prompts, and with the images of a dataset as RUN/features keeps them."""
    prompts = load_prompts(special_tokens=checkpoint.special_tokens)
    blocks = BlockReader(checkpoint, prompts) if read_attention(checkpoint.path) == "blocks" else None
    return ModelSession(checkpoint, prompts, FeatureStore(checkpoint, dataset.image_paths, features), blocks)


def images_shown(direction: Direction, shortlists: Iterable[Shortlist]) -> list[str]:
    """Return the ids of the images that a verifier is shown."""
    return [i for own in shortlists for i in direction.images_shown(own.query, (item.item_id for item in own.items))]
