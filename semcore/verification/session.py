"""Verifier sessions: a model session, with a block reader where the model was trained in candidate blocks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semcore.data.dataset import Dataset
from semcore.models.checkpoint import Checkpoint
from semcore.models.session import ModelSession, load_session
from semcore.verification.block_inference import BlockReader
from semcore.verification.block_layout import read_attention


@dataclass(frozen=True)
class VerifierSession(ModelSession):
    """A model session of a verifier.

    Attributes:
        blocks: reader of questions in candidate blocks; None for full attention.
    """

    blocks: BlockReader | None = None


def load_verifier(checkpoint: Checkpoint, dataset: Dataset, features: Path | None) -> VerifierSession:
    """Make a session of a verifier's checkpoint, with prompts, images and the attention of its training.

    Args:
        checkpoint: the verifier.
        dataset: the dataset with the images.
        features: RUN/features, the feature store; None stores nothing.

    Raises:
        UserError: the prompts or the model do not support candidate blocks, or the recorded attention is unknown.
    """
    session = load_session(checkpoint, dataset, features)
    blocks = BlockReader(checkpoint, session.prompts) if read_attention(checkpoint.path) == "blocks" else None
    return VerifierSession(checkpoint, session.prompts, session.features, blocks)
