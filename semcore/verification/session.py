"""Verifier sessions: a model session, and the reader of candidate blocks where the model was trained to read them."""

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
    """A model session that asks questions about candidates.

    Attributes:
        blocks: reads questions in candidate blocks; None for full attention.
    """

    blocks: BlockReader | None = None


def load_verifier(checkpoint: Checkpoint, dataset: Dataset, features: Path | None) -> VerifierSession:
    """Put a verifier's checkpoint together with prompts and images; it reads with the attention of its training.

    Args:
        checkpoint: the verifier.
        dataset: whose images the model may be shown.
        features: RUN/features, where visual features are kept; None keeps none.

    Raises:
        UserError: the prompts or the model do not allow candidate blocks, or the record of the attention is unknown.
    """
    session = load_session(checkpoint, dataset, features)
    blocks = BlockReader(checkpoint, session.prompts) if read_attention(checkpoint.path) == "blocks" else None
    return VerifierSession(checkpoint, session.prompts, session.features, blocks)
