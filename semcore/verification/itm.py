"""Verification by image-text matching: BLIP reads sentence and picture together, and says whether they match.

The score is the log-odds of its two logits, match less no match, which a fusion takes as they are; ComGTIR takes the
probability. A picture is read once, a sentence with each of its pictures.

Shapes: n pairs, t tokens of a sentence, v tokens of a picture, d width of the picture's states.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from semcore.data.dataset import Dataset
from semcore.models.checkpoint import load_image_processor, load_tokenizer
from semcore.models.dual_encoder import load_whole
from semcore.models.inference import check_device, default_device
from semcore.runtime.resumable import RunStep, run_at_once
from semcore.verification.image_text_pairs import PairSession, score_pairs
from semcore.verification.likelihood import Pair

PAIRS_PER_BATCH = 32
IMAGES_PER_BATCH = 16


@dataclass(frozen=True)
class MatchingModel:
    """A loaded BLIP with its matching head."""

    model: Any
    tokenizer: Any
    image_processor: Any


def load(checkpoint: str, dataset: Dataset, device: str | None = None) -> PairSession:
    """Open a BLIP checkpoint with a matching head.

    Args:
        checkpoint: a folder or a hub id.
        dataset: holds the images.
        device: the fastest one by default.

    Raises:
        UserError: it cannot be loaded, or is none.
    """
    from transformers import BlipForImageTextRetrieval

    device = device or default_device()
    check_device(device)
    tokenizer = load_tokenizer(checkpoint)
    tokenizer.padding_side = "right"
    model = load_whole(checkpoint, ("blip",), "--itm-model takes BLIP-ITM checkpoints", BlipForImageTextRetrieval)
    return PairSession.of(MatchingModel(model.to(device), tokenizer, load_image_processor(checkpoint)), dataset)


def match_log_odds(session: PairSession, pairs: Iterable[Pair], run: RunStep = run_at_once) -> dict[Pair, float]:
    """Return log p(match) - log p(no match) of every pair.

    Args:
        session: from `load`.
        pairs: in any order, possibly with repetitions.
        run: runs the step "itm".
    """
    matching: MatchingModel = session.model

    def score(chunk: list[tuple[str, list[str]]]) -> list[list[float]]:
        rows = []
        for first in range(0, len(chunk), IMAGES_PER_BATCH):
            some = chunk[first : first + IMAGES_PER_BATCH]
            states = read_pictures(matching, [session.picture(image_id) for image_id, _ in some])
            owners = torch.tensor([place for place, (_, own) in enumerate(some) for _ in own], device=states.device)
            odds = iter(read_sentences(matching, states, owners, [text for _, own in some for text in own]))
            rows += [[next(odds) for _ in own] for _, own in some]
        return rows

    return score_pairs("itm", pairs, run, score)


@torch.inference_mode()
def read_pictures(matching: MatchingModel, pictures: list[Any]) -> torch.Tensor:
    """Return the states of pictures (pictures, v, d)."""
    inputs = matching.image_processor(images=pictures, return_tensors="pt")
    states: torch.Tensor = matching.model.vision_model(
        pixel_values=inputs["pixel_values"].to(matching.model.device)
    ).last_hidden_state
    return states


@torch.inference_mode()
def read_sentences(
    matching: MatchingModel, states: torch.Tensor, owners: torch.Tensor, sentences: list[str]
) -> list[float]:
    """Return the log-odds that each sentence matches its picture.

    Args:
        matching: the model.
        states: of the pictures (pictures, v, d).
        owners: each sentence's picture (n,).
        sentences: n of them; what is longer than the text model's positions is cut off.
    """
    longest = matching.model.config.text_config.max_position_embeddings
    odds: list[float] = []
    for first in range(0, len(sentences), PAIRS_PER_BATCH):
        batch, shown = sentences[first : first + PAIRS_PER_BATCH], states[owners[first : first + PAIRS_PER_BATCH]]
        inputs = matching.tokenizer(batch, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        read = matching.model.text_encoder(
            input_ids=inputs["input_ids"].to(states.device),
            attention_mask=inputs["attention_mask"].to(states.device),
            encoder_hidden_states=shown,
            encoder_attention_mask=torch.ones(shown.shape[:2], dtype=torch.long, device=states.device),
            return_dict=True,
        ).last_hidden_state
        logits = matching.model.itm_head(read[:, 0]).float()
        odds += (logits[:, 1] - logits[:, 0]).tolist()
    return odds
