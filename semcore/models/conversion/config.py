"""Native configuration of an original checkpoint."""

from __future__ import annotations

from typing import Any

from transformers import InternVLConfig, InternVLVisionConfig, LlamaConfig, Qwen2Config

from semcore.models.conversion.weight_names import Heads
from semcore.runtime.errors import UserError

TEXT_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps",
    "attention_dropout",
)  # fmt: skip
QWEN2_KEYS = ("use_sliding_window", "sliding_window", "max_window_layers")
# Fields for which InternLM2 has its own default, or another name.
INTERNLM2_DEFAULTS = {"rms_norm_eps": 1e-6, "max_position_embeddings": 2048, "vocab_size": 103168}
VISION_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "norm_type",
    "layer_norm_eps", "image_size", "patch_size", "num_channels", "initializer_range", "attention_dropout",
)  # fmt: skip
VISION_NAMES = {"qkv_bias": "attention_bias", "qk_normalization": "use_qk_norm", "dropout": "projection_dropout"}
# The original class is InternViT-6B unless the file says otherwise.
VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 48, "num_attention_heads": 25,
    "hidden_act": "gelu", "norm_type": "rms_norm", "layer_norm_eps": 1e-6, "image_size": 224, "patch_size": 14,
    "num_channels": 3, "qkv_bias": False, "qk_normalization": True,
}  # fmt: skip
ROPE_TYPES = ("default", "linear", "dynamic")
NATIVE_QK_NORM_EPS = 1e-6


def text_heads(original: dict[str, Any]) -> Heads:
    """Return the attention heads of an original checkpoint's text model."""
    text = original["llm_config"]
    num_query = text["num_attention_heads"]
    return Heads(num_query, text.get("num_key_value_heads") or num_query, text["hidden_size"] // num_query)


def image_side(original: dict[str, Any]) -> int:
    """Return the side of a tile in pixels."""
    return original.get("force_image_size") or (VISION_DEFAULTS | original["vision_config"])["image_size"]


def native_config(
    original: dict[str, Any], *, tied: bool, dtype: str, image_token_id: int, end_token_id: int
) -> InternVLConfig:
    """Return the configuration of `InternVLForConditionalGeneration` for an original checkpoint.

    Args:
        original: the original `config.json`.
        tied: whether the output head is the input embedding; the weights decide, not the configuration.
        dtype: dtype of the stored weights, such as "bfloat16".
        image_token_id: id of `<IMG_CONTEXT>`.
        end_token_id: id of `<|im_end|>`.

    Raises:
        UserError: the model has something that the native class cannot express.
    """
    patches = image_side(original) // (VISION_DEFAULTS | original["vision_config"])["patch_size"]
    ratio = original.get("downsample_ratio", 0.5)
    text = text_config(original["llm_config"], tied=tied, end_token_id=end_token_id)
    config = InternVLConfig(
        text_config=text,
        vision_config=vision_config(original["vision_config"]),
        image_token_id=image_token_id,
        image_seq_length=int(patches**2 * ratio**2),
        downsample_ratio=ratio,
        vision_feature_layer=original.get("select_layer", -1),
        tie_word_embeddings=tied,
        architectures=["InternVLForConditionalGeneration"],
    )
    for part in (config, config.text_config, config.vision_config):
        part.dtype = dtype  # type: ignore[union-attr]
    return config


def text_config(original: dict[str, Any], *, tied: bool, end_token_id: int) -> Qwen2Config | LlamaConfig:
    """Return the text model's configuration; InternLM2 is a Llama whose projections are fused.

    Raises:
        UserError: positions are scaled in a way that the native class does not know.
    """
    is_internlm2 = original["architectures"][0] == "InternLM2ForCausalLM"
    original = (INTERNLM2_DEFAULTS if is_internlm2 else {}) | original
    values = {key: original[key] for key in (*TEXT_KEYS, *QWEN2_KEYS) if original.get(key) is not None}
    values |= {
        "rope_parameters": _rope(original),
        "tie_word_embeddings": tied,
        "bos_token_id": original.get("bos_token_id"),
        "eos_token_id": end_token_id,
    }
    if not is_internlm2:
        return Qwen2Config(**values)
    for key in QWEN2_KEYS:
        values.pop(key, None)
    return LlamaConfig(**values, attention_bias=original.get("bias", True))


def _rope(original: dict[str, Any]) -> dict[str, Any]:
    scaling = original.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ROPE_TYPES:
        raise UserError(f"positions scaled as {kind!r} cannot be converted; there are {', '.join(ROPE_TYPES)}")
    rope = {"rope_type": kind, "rope_theta": original.get("rope_theta", 10000.0)}
    return rope if kind == "default" else rope | {"factor": scaling["factor"]}


def vision_config(original: dict[str, Any]) -> InternVLVisionConfig:
    """Return the vision tower's configuration.

    Raises:
        UserError: queries and keys are normalised with another epsilon than the native class has.
    """
    original = VISION_DEFAULTS | original
    if original["qk_normalization"] and original["layer_norm_eps"] != NATIVE_QK_NORM_EPS:
        raise UserError(
            f"the vision tower's layer_norm_eps is {original['layer_norm_eps']}, with normalised queries and keys only "
            f"{NATIVE_QK_NORM_EPS} can be converted"
        )
    values = {key: original[key] for key in VISION_KEYS if key in original}
    values |= {native: original[key] for key, native in VISION_NAMES.items() if key in original}
    return InternVLVisionConfig(**values, use_absolute_position_embeddings=True, use_mean_pooling=True)
