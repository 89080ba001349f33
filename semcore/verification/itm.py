"""Verification by image-text matching: BLIP or BLIP-2 reads sentence and picture together, and says whether they match.

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
from semcore.verification.matching_kinds import KINDS

PAIRS_PER_BATCH = 32
IMAGES_PER_BATCH = 16


@dataclass(frozen=True)
class MatchingModel:
    """A loaded BLIP or BLIP-2 with its matching head."""

    model: Any
    tokenizer: Any
    image_processor: Any


def load(checkpoint: str, dataset: Dataset, device: str | None = None) -> PairSession:
    """Open a BLIP or BLIP-2 checkpoint with a matching head, in float32.

    Args:
        checkpoint: a folder or a hub id.
        dataset: holds the images.
        device: the fastest one by default.

    Raises:
        UserError: it cannot be loaded, is of another kind, or has no such head.
    """
    device = device or default_device()
    check_device(device)
    tokenizer = load_tokenizer(checkpoint)
    tokenizer.padding_side = "right"
    model = load_whole(
        checkpoint, {name: kind.architecture for name, kind in KINDS.items()},
        "--itm-model takes BLIP-ITM and BLIP-2-ITM checkpoints", {"itm_head": "head for image-text matching"},
    )  # fmt: skip
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
        sentences: n of them; what is longer than the text model's positions is cut off, and the name of a special token
            in one is words like others.
    """
    config = matching.model.config
    kind = KINDS[config.model_type]
    longest = getattr(config, kind.text).max_position_embeddings
    odds: list[float] = []
    for first in range(0, len(sentences), PAIRS_PER_BATCH):
        batch, shown = sentences[first : first + PAIRS_PER_BATCH], states[owners[first : first + PAIRS_PER_BATCH]]
        inputs = matching.tokenizer(
            batch, padding=True, truncation=True, max_length=longest, split_special_tokens=True, return_tensors="pt"
        ).to(states.device)
        logits = kind.logits(matching.model, inputs["input_ids"], inputs["attention_mask"], shown).float()
        odds += (logits[:, 1] - logits[:, 0]).tolist()
    return odds
