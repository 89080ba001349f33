"""Losses of the base checkpoint: the answers', and auxiliary ones without which choosing by letter is not learnt.

Shapes: B rows, L tokens of the longest, D the size of a state, N lookups, I images, V visual tokens of an image,
G groups of words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from typing import Any

import torch
from torch.nn import functional
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from data_prep.scenes.pretraining.shared_prefix import IGNORED

LOOKUP_LAYERS = (1, 2)  # layer 0 joins neighbouring tokens
ANSWER_LOOKUP_LAYERS = (3,)
EARLY_LAYER = 1  # the states that enter this layer already have a loss on the candidate's letter
WORD_LAYERS = (1, 2, 3)  # visual tokens still have to predict their words where they enter these layers
SMALLEST_SHARE = 1e-4
WORD_SCALE = 8.0
NORM_WEIGHT = 0.005


@dataclass(frozen=True)
class LossWeights:
    """The weight of each loss.

    Attributes:
        answer: the answers' tokens.
        hint: the tokens that positions of the prompt predict.
        lookup: head 0's attention, in some layers, from a token to what it seeks.
        words: the words of what visual tokens show, as they enter the text model.
        kept_words: the same words further on, where the letter that each token predicts would overwrite them.
    """

    answer: float = 1.0
    hint: float = 0.5
    lookup: float = 1.0
    words: float = 0.3
    kept_words: float = 1.0

    def as_tensor(self) -> torch.Tensor:
        """Return the weights in the order of the fields, shape (5,)."""
        return torch.tensor(astuple(self))


@dataclass
class Watched:
    """Activations recorded in a forward pass.

    Attributes:
        attended: text layer -> the inputs of its attention: states (B, L, D), cosines and sines.
        entered: text layer -> the states (B, L, D) that entered it.
        features: of the images, (I, V, D).
    """

    attended: dict[int, tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]] = field(default_factory=dict)
    entered: dict[int, torch.Tensor] = field(default_factory=dict)
    features: torch.Tensor | None = None


def total_loss(model: Any, batch: Mapping[str, torch.Tensor], word_groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the weighted sum of the losses that a batch has labels for, a scalar ().

    Args:
        model: the InternVL.
        batch: from `courses.Lessons`; its `loss_weights` are the values of a `LossWeights`.
        word_groups: G groups of token ids, the words of a kind (colours, say), that `visual_words` (I, V, G) index.
    """
    if "input_ids" not in batch:
        features = model.model.get_image_features(pixel_values=batch["pixel_values"]).pooler_output
        return visual_word_loss(model, features, batch["visual_words"], word_groups)
    weights = LossWeights(*batch["loss_weights"].tolist())
    inputs = {
        name: batch[name] for name in ("input_ids", "position_ids", "attention_mask", "pixel_values") if name in batch
    }
    with watch(model) as seen:
        states = model.model(**inputs, use_cache=False).last_hidden_state
    loss = states.new_zeros((), dtype=torch.float32)
    if weights.answer:
        # The state before a token predicts it.
        loss = loss + weights.answer * said_loss(model, states[:, :-1], batch["labels"][:, 1:])
    if weights.hint:
        early = model.model.language_model.norm(seen.entered[EARLY_LAYER])
        loss = loss + weights.hint * said_loss(model, states, batch["hints"])
        loss = loss + weights.hint * said_loss(model, early, batch["early_hints"])
    if weights.lookup:
        loss = loss + weights.lookup * lookup_loss(model, seen, batch)
    if weights.words and seen.features is not None:
        loss = loss + weights.words * visual_word_loss(model, seen.features, batch["visual_words"], word_groups)
    if weights.kept_words and seen.features is not None:
        loss = loss + weights.kept_words * kept_word_loss(model, seen, batch, word_groups)
    return loss


def said_loss(model: Any, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy of `labels` (B, L) as predicted from `states` (B, L, D); 0 without a label."""
    counted = labels != IGNORED
    logits = model.lm_head(states[counted]).float()
    return functional.cross_entropy(logits, labels[counted], reduction="sum") / counted.sum().clamp(min=1)


def lookup_loss(model: Any, seen: Watched, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean -log of the attention from lookups to their targets (N, L), in head 0 of their layers."""
    if not len(batch["lookup_places"]):
        return batch["lookup_targets"].new_zeros((), dtype=torch.float32)
    losses = []
    for layers, counted in (
        (LOOKUP_LAYERS, ~batch["lookup_of_answer"]),
        (ANSWER_LOOKUP_LAYERS, batch["lookup_of_answer"]),
    ):
        rows, places = batch["lookup_places"][counted].unbind(1)
        for number in layers if counted.any() else ():
            attention = model.model.language_model.layers[number].self_attn
            shares = first_head_attention(attention, *seen.attended[number], batch["attention_mask"])[rows, places]
            found = (shares * batch["lookup_targets"][counted]).sum(-1)
            losses.append(-(found + SMALLEST_SHARE).log().mean())
    return torch.stack(losses).mean()


def first_head_attention(
    attention: Any,
    states: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor,
) -> torch.Tensor:
    """Return the attention (B, L, L) of head 0 of a Qwen2 layer.

    Args:
        attention: the layer's attention.
        states: the layer's normalised input, (B, L, D).
        rotary: cosines and sines of the rotary position embedding.
        mask: additive, (B, 1, L, L).
    """
    size = attention.head_dim
    query, key = (
        functional.linear(states, part.weight[:size], part.bias[:size])[:, None]
        for part in (attention.q_proj, attention.k_proj)
    )
    query, key = apply_rotary_pos_emb(query, key, *rotary)
    scores = (query @ key.transpose(-1, -2) * attention.scaling).float() + mask
    return scores.softmax(-1)[:, 0]


def visual_word_loss(
    model: Any, features: torch.Tensor, words: torch.Tensor, word_groups: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return the loss of predicting, from visual tokens, the words of what they show, by the text model's embeddings.

    A feature's product with the embedding of a true word is trained to exceed one half, with any other to stay below.
    The features then enter the text model roughly as the sum of those words, which its heads can match with a sentence.

    Args:
        model: its embeddings get no gradient.
        features: (I, V, D).
        words: (I, V, G), the index of the true word in its group, or the group's length for none of them.
        word_groups: token ids.
    """
    embeddings = model.get_input_embeddings().weight.detach()
    features = features.float()
    loss = NORM_WEIGHT * features.square().sum(-1).mean()
    for place, group in enumerate(word_groups):
        logits = WORD_SCALE * (features @ embeddings[group].T)
        none = torch.full_like(logits[..., :1], WORD_SCALE / 2)
        wrong = functional.cross_entropy(torch.cat([logits, none], -1).flatten(0, 1), words[..., place].flatten())
        loss = loss + wrong / len(word_groups)
    return loss


def kept_word_loss(
    model: Any, seen: Watched, batch: Mapping[str, torch.Tensor], word_groups: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return the loss of visual tokens (I, V, G) on the true word of each group, in later layers.

    Only the order within a group counts: other words may have higher logits.
    """
    embeddings = model.get_input_embeddings().weight.detach()
    visual = batch["input_ids"] == model.config.image_token_id
    words = batch["visual_words"].flatten(0, 1)
    entered = torch.stack([seen.entered[number][visual] for number in WORD_LAYERS])
    states = model.model.language_model.norm(entered).float()
    losses = []
    for place, group in enumerate(word_groups):
        logits = (states @ embeddings[group].T).flatten(0, 1)
        labels = words[:, place].where(words[:, place] < len(group), IGNORED).repeat(len(WORD_LAYERS))
        wrong = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        losses.append(wrong / (labels != IGNORED).sum().clamp(min=1))
    return torch.stack(losses).mean()


@contextmanager
def watch(model: Any) -> Iterator[Watched]:
    """Record the model's activations while the context is open."""
    seen = Watched()

    def note_attention(number: int) -> Any:
        def hook(_: Any, __: Any, given: dict[str, Any]) -> None:
            seen.attended[number] = (given["hidden_states"], given["position_embeddings"])

        return hook

    def note_states(number: int) -> Any:
        def hook(_: Any, given: tuple[Any, ...]) -> None:
            seen.entered[number] = given[0]

        return hook

    def note_features(_: Any, __: Any, features: torch.Tensor) -> None:
        seen.features = features

    handles = [model.model.multi_modal_projector.register_forward_hook(note_features)]
    for number, layer in enumerate(model.model.language_model.layers):
        if number in (*LOOKUP_LAYERS, *ANSWER_LOOKUP_LAYERS):
            handles.append(layer.self_attn.register_forward_pre_hook(note_attention(number), with_kwargs=True))
        if number in (EARLY_LAYER, *WORD_LAYERS):
            handles.append(layer.register_forward_pre_hook(note_states(number)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
