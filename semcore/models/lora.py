"""LoRA adapters on a model's linear layers, with trainable embeddings of new tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semcore.models.embeddings import embedding_weights
from semcore.runtime.errors import UserError


def apply_lora(
    model: Any,
    *,
    rank: int,
    alpha: int,
    dropout: float,
    target_modules: Sequence[str],
    new_token_ids: Sequence[int],
) -> Any:
    """Add LoRA to the text model's layers; of the embeddings only the new tokens' rows are trained.

    Args:
        model: a native InternVL model with the new tokens already added.
        rank: LoRA's r.
        alpha: LoRA's alpha.
        dropout: LoRA's dropout.
        target_modules: names of linear layers of the text model, such as "q_proj".
        new_token_ids: rows of the input embedding, and of an untied head, that are trained.

    Raises:
        UserError: the text model has no layer of such a name.
    """
    from peft import LoraConfig, get_peft_model

    layers = [name for name, _ in model.named_modules() if "language_model." in name]
    unknown = [target for target in target_modules if not any(name.endswith(f".{target}") for name in layers)]
    if unknown or not target_modules:
        raise UserError(f"--lora.target-modules {unknown} names no layer of the text model; q_proj, say, is one")
    rows = {"embed_tokens": list(new_token_ids)}
    if len(embedding_weights(model)) == 2:
        rows["lm_head"] = list(new_token_ids)
    names = "|".join(target_modules)
    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=rf".*language_model\..*\.({names})",
        trainable_token_indices=rows if new_token_ids else None,
    )
    return get_peft_model(model, settings)
