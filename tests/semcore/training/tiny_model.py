"""A tiny native InternVL with examples of both directions, and the slow, obvious way to read them: one a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration

from semcore.training.collator import Collator
from semcore.training.identifier_pairs import Example
from semcore.training.image_inputs import StoredFeatures
from semcore.training.packing import Row, merge, pack

PAD, IMAGE_START, IMAGE, END, VOCABULARY = 0, 1, 2, 3, 97
TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": END,
}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def build(kind: str = "qwen2") -> Any:
    torch.manual_seed(0)
    text = {**TEXT, "model_type": kind}
    model: Any = InternVLForConditionalGeneration(
        InternVLConfig(vision_config=VISION, text_config=text, image_token_id=IMAGE, tie_word_embeddings=False)
    )
    for name, parameter in model.named_parameters():  # biases begin at 0, and norms at 1
        parameter.data += 0.1 * torch.randn_like(parameter) * (parameter.ndim == 1)
        parameter.data *= 5 if parameter.ndim == 2 else 1  # layers are to matter as much as in a trained model
        parameter.requires_grad_("vision" not in name and "multi_modal" not in name)
    model.set_attn_implementation("eager")
    return model.train()


def examples_and_features(num_units: int = 0) -> tuple[list[Example], dict[str, torch.Tensor]]:
    """Sentences that share a template, and identifiers of two images: answers of one to five tokens."""
    generator = torch.Generator().manual_seed(1)

    def words(count: int, most: int = VOCABULARY) -> list[int]:
        return torch.randint(10, most, (count,), generator=generator).tolist()

    def units() -> list[int]:
        return [] if not num_units else torch.randperm(num_units, generator=generator)[: 1 + len(words(2))].tolist()

    template, ending = words(6), words(3)
    examples = [
        Example([*template, *words(2 + n % 4), *ending], [*words(n % 5), END], units=units()) for n in range(12)
    ]
    for name in ("a", "b"):
        prompt = [*template[:3], IMAGE_START, *[IMAGE] * 4, *ending]
        examples += [Example(prompt, [*words(1 + n), END], (name,), units=units()) for n in range(3)]
    return examples, {name: torch.randn(4, 32, generator=generator) for name in ("a", "b")}


def packed_rows(examples: Sequence[Example]) -> list[Row]:
    rows = [merge(group, IMAGE_START) for group in pack(examples, 64, IMAGE_START)]
    assert 1 < len(rows) < len(examples) / 2
    return rows


def collate(rows: Sequence[Row], features: dict[str, torch.Tensor], num_copies: int = 1) -> dict[str, Any]:
    has_units = any(row.units for row in rows)
    return Collator(StoredFeatures(features), PAD, IMAGE, num_copies, has_units)(rows)


def read_alone(model: Any, example: Example, features: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last states of an example's prompt (P, H), and log p of each token of its answer, in its own pass."""
    tokens = torch.tensor([[*example.prompt, *example.answer]])
    kept: list[torch.Tensor] = []
    hook = model.get_decoder().register_forward_hook(lambda _m, _i, output: kept.append(output.last_hidden_state))
    logits = model(
        input_ids=tokens, use_cache=False, **StoredFeatures(features).model_inputs(list(example.images))
    ).logits
    hook.remove()
    start = len(example.prompt)
    log_probs = logits[0, start - 1 : -1].log_softmax(-1).gather(1, tokens[0, start:, None])[:, 0]
    return kept[0][0, :start], log_probs
