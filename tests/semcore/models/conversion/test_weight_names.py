from __future__ import annotations

import pytest
import torch

from semcore.models.conversion.weight_names import Heads, move_of

HEADS = Heads(num_query=6, num_key_value=2, width=3)


def test_interleaved_projections_come_apart_by_group() -> None:
    move = move_of("language_model.model.layers.7.attention.wqkv.weight", HEADS)
    assert move is not None
    fused = torch.arange((6 + 2 * 2) * 3 * 5.0).reshape(30, 5)
    heads = [fused[3 * number : 3 * number + 3] for number in range(10)]
    # Row by row: three query heads, their key head, their value head; then the second group.
    order = {"q": [0, 1, 2, 5, 6, 7], "k": [3, 8], "v": [4, 9]}
    for letter, target, part in zip("qkv", move.targets, move.split(fused), strict=True):
        assert target == f"language_model.model.layers.7.self_attn.{letter}_proj.weight"
        assert torch.equal(part, torch.cat([heads[number] for number in order[letter]]))


def test_stacked_projections_of_the_vision_tower_are_views() -> None:
    move = move_of("vision_model.encoder.layers.3.attn.qkv.bias", HEADS)
    assert move is not None
    fused = torch.arange(12.0)
    parts = move.split(fused)
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert parts[0].data_ptr() == fused.data_ptr()
    assert move.targets[2] == "vision_tower.encoder.layer.3.attention.v_proj.bias"


@pytest.mark.parametrize(
    ("original", "native"),
    [
        ("vision_model.embeddings.class_embedding", "vision_tower.embeddings.cls_token"),
        ("vision_model.encoder.layers.0.ls2", "vision_tower.encoder.layer.0.lambda_2"),
        ("mlp1.3.bias", "multi_modal_projector.linear_2.bias"),
        ("language_model.model.norm.weight", "language_model.model.norm.weight"),
        ("language_model.output.weight", "language_model.lm_head.weight"),
        ("language_model.model.layers.1.ffn_norm.weight",
         "language_model.model.layers.1.post_attention_layernorm.weight"),
        ("language_model.model.layers.1.self_attn.q_proj.bias",
         "language_model.model.layers.1.self_attn.q_proj.bias"),
    ],
)  # fmt: skip
def test_a_weight_moves_whole(original: str, native: str) -> None:
    move = move_of(original, HEADS)
    assert move is not None
    assert move.targets == (native,)


@pytest.mark.parametrize("name", ["mlp1.9.weight", "qformer.weight", "vision_model.head.weight", "language_model.x"])
def test_an_unknown_weight_goes_nowhere(name: str) -> None:
    assert move_of(name, HEADS) is None
