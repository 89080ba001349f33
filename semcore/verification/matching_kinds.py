"""Kinds of checkpoints with a head for image-text matching, BLIP and BLIP-2: how each reads a sentence and a picture.

Both read a picture once, by `vision_model`, and a sentence with the picture's states. BLIP's logits are those of the
sentence's first token; BLIP-2 puts query tokens before the sentence, only they see the picture, and the logits are the
mean of theirs.

Shapes: n pairs, t tokens of a sentence, v tokens of a picture, d width of its states, q query tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class MatchingKind:
    """What is known of the checkpoints of one `model_type`.

    Attributes:
        architecture: name of their class in transformers.
        text: name of the part of their configuration that says how many positions a sentence has.
        logits: (model, token ids (n, t), mask (n, t), states (n, v, d)) -> logits of no match and match (n, 2).
    """

    architecture: str
    text: str
    logits: Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def blip_logits(model: Any, ids: torch.Tensor, mask: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Return BLIP's logits of no match and match (n, 2).

    Args:
        model: a `BlipForImageTextRetrieval`.
        ids: of the sentences' tokens, padded on the right (n, t).
        mask: 1 where there is a token (n, t).
        states: of each sentence's picture (n, v, d).
    """
    read = model.text_encoder(
        input_ids=ids,
        attention_mask=mask,
        encoder_hidden_states=states,
        encoder_attention_mask=torch.ones_like(states[..., 0], dtype=torch.long),
        return_dict=True,
    ).last_hidden_state
    logits: torch.Tensor = model.itm_head(read[:, 0])
    return logits


def blip2_logits(model: Any, ids: torch.Tensor, mask: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Return BLIP-2's logits of no match and match (n, 2).

    Its processor writes a placeholder for each query token before the sentence, and its forward takes them off again:
    they are never written here.

    Args:
        model: a `Blip2ForImageTextRetrieval`.
        ids: of the sentences' tokens, without placeholders, padded on the right (n, t).
        mask: 1 where there is a token (n, t).
        states: of each sentence's picture (n, v, d).
    """
    queries = model.query_tokens.expand(len(ids), -1, -1)
    read = model.qformer(
        query_embeds=model.embeddings(input_ids=ids, query_embeds=queries),
        query_length=queries.shape[1],
        attention_mask=torch.cat([mask.new_ones(queries.shape[:2]), mask], dim=1),
        encoder_hidden_states=states,
        encoder_attention_mask=torch.ones_like(states[..., 0], dtype=torch.long),
        return_dict=True,
    ).last_hidden_state
    logits: torch.Tensor = model.itm_head(read[:, : queries.shape[1]]).mean(dim=1)
    return logits


KINDS: Mapping[str, MatchingKind] = {
    "blip": MatchingKind("BlipForImageTextRetrieval", "text_config", blip_logits),
    "blip-2": MatchingKind("Blip2ForImageTextRetrieval", "qformer_config", blip2_logits),
}
"""`model_type` -> its kind."""
