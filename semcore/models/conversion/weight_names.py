"""Mapping of the original layout's weights to native ones.

The native names are those of the published native folders, which `save_pretrained` writes too.

The original fuses query, key and value: the vision tower stacks the three, InternLM2 interleaves
them by group of heads, so that each key and value head follows the query heads that share it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch

VISION_EMBEDDINGS = {
    "class_embedding": "cls_token",
    "position_embedding": "position_embeddings",
    "patch_embedding.weight": "patch_embeddings.projection.weight",
    "patch_embedding.bias": "patch_embeddings.projection.bias",
}
VISION_LAYER = {
    "attn.proj": "attention.projection_layer",
    "attn.q_norm": "attention.q_norm",
    "attn.k_norm": "attention.k_norm",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
}
PROJECTOR = {"0": "layer_norm", "1": "linear_1", "3": "linear_2"}
INTERNLM2_LAYER = {
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


@dataclass(frozen=True)
class Heads:
    """The attention heads of the text model: query heads, key and value heads, and the width of one."""

    num_query: int
    num_key_value: int
    width: int


Split = Callable[[torch.Tensor], list[torch.Tensor]]


@dataclass(frozen=True)
class Move:
    """The native names of one original weight, and how it is split where they are several."""

    targets: tuple[str, ...]
    split: Split


def move_of(name: str, heads: Heads) -> Move | None:
    """Return the mapping of an original weight, or None if InternVL2.5 and InternVL3 have none of that name.

    Args:
        name: its original name, such as "language_model.model.layers.0.attention.wqkv.weight".
        heads: the attention heads of the text model.
    """
    room, _, rest = name.partition(".")
    if room == "vision_model":
        return _vision(rest)
    if room == "mlp1":
        number, _, kind = rest.partition(".")
        return _whole(f"multi_modal_projector.{PROJECTOR[number]}.{kind}") if number in PROJECTOR else None
    return _text(rest, heads) if room == "language_model" else None


def _vision(name: str) -> Move | None:
    room, _, rest = name.partition(".")
    if room == "embeddings" and rest in VISION_EMBEDDINGS:
        return _whole(f"vision_tower.embeddings.{VISION_EMBEDDINGS[rest]}")
    layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+?)(\.weight|\.bias)?", name)
    if layer is None:
        return None
    number, part, kind = layer.group(1), layer.group(2), layer.group(3) or ""
    prefix = f"vision_tower.encoder.layer.{number}."
    if part == "attn.qkv":
        return _projections(f"{prefix}attention", kind, _stacked)
    return _whole(f"{prefix}{VISION_LAYER[part]}{kind}") if part in VISION_LAYER else None


def _text(name: str, heads: Heads) -> Move | None:
    if name in ("lm_head.weight", "output.weight"):
        return _whole("language_model.lm_head.weight")
    if name == "model.tok_embeddings.weight":
        return _whole("language_model.model.embed_tokens.weight")
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)(\.weight|\.bias)", name)
    if layer is not None:
        number, part, kind = layer.groups()
        prefix = f"language_model.model.layers.{number}."
        if part == "attention.wqkv":
            return _projections(f"{prefix}self_attn", kind, lambda fused: _interleaved(fused, heads))
        return _whole(f"{prefix}{INTERNLM2_LAYER.get(part, part)}{kind}")
    return _whole(f"language_model.{name}") if name.startswith("model.") else None


def _whole(target: str) -> Move:
    return Move((target,), lambda weight: [weight])


def _projections(prefix: str, kind: str, split: Split) -> Move:
    return Move(tuple(f"{prefix}.{letter}_proj{kind}" for letter in "qkv"), split)


def _stacked(fused: torch.Tensor) -> list[torch.Tensor]:
    """Split (3 x width, ...) into query, key and value."""
    return list(fused.chunk(3))


def _interleaved(fused: torch.Tensor, heads: Heads) -> list[torch.Tensor]:
    """Split ((query heads + 2 x key heads) x width, ...) into query, key and value.

    A group has the query heads that share a key head, then that key head, then its value head.
    """
    shared = heads.num_query // heads.num_key_value
    groups = fused.unflatten(0, (heads.num_key_value, shared + 2, heads.width))
    parts = (groups[:, :shared], groups[:, shared : shared + 1], groups[:, shared + 1 :])
    return [part.flatten(0, 2).contiguous() for part in parts]
