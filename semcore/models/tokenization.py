"""Tokenization of prompts and answers, and preparation of images for the vision tower.

All text is tokenized here, so that training labels, index sequences and prompts agree to the token.
An image becomes `<img>`, one `<IMG_CONTEXT>` per visual token, `</img>`, as in InternVL; tiling is left
to the checkpoint's own image processor.

Shapes: B prompts, L tokens of the longest, T tiles, C x H x W values per tile.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from semcore.models.attention_masks import pad
from semcore.models.checkpoint import Checkpoint
from semcore.models.compatibility import IMAGE_CONTEXT, IMAGE_END, IMAGE_START
from semcore.models.prompts import IMAGE
from semcore.models.special_tokens import closing_token_id

_ANSWERS_AT_ONCE = 1024


def prepare_images(checkpoint: Checkpoint, images: Sequence[Image.Image]) -> list[torch.Tensor]:
    """Resize, tile and scale images with the checkpoint's image processor; return one tensor (T, C, H, W) per image."""
    if not images:
        return []
    prepared = checkpoint.image_processor(images=list(images), return_tensors="pt")
    tiles = prepared["num_patches"].tolist() if "num_patches" in prepared else [1] * len(images)
    return list(torch.split(prepared["pixel_values"], tiles))


def chat_prompt(tokenizer: Any, user_turn: str) -> str:
    """Wrap a user's turn in the checkpoint's own chat template, up to where the answer starts."""
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": user_turn}], add_generation_prompt=True, tokenize=False
    )


def expand_images(text: str, visual_tokens: Sequence[int]) -> str:
    """Replace the k-th image placeholder by the tokens of an image with `visual_tokens[k]` of them.

    Raises:
        ValueError: the text does not have one placeholder per image.
    """
    parts = text.split(str(IMAGE))
    if len(parts) != len(visual_tokens) + 1:
        raise ValueError(f"{len(parts) - 1} image placeholders for {len(visual_tokens)} images")
    images = [IMAGE_START + IMAGE_CONTEXT * count + IMAGE_END for count in visual_tokens]
    return parts[0] + "".join(image + part for image, part in zip(images, parts[1:], strict=True))


def tokenize(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a whole prompt, without added special tokens."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def tokenize_all(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return what `tokenize` does of each text, all at once."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def answer_tokens(tokenizer: Any, prompt: str, answer: str) -> list[int]:
    """Return the tokens of `answer` in context, right after `prompt`, and the token that closes a turn.

    Training labels and index sequences both come from here: " dog" and "dog" are different tokens,
    and the preceding text decides which of them is used.

    Raises:
        ValueError: the answer changes the prompt's tokenization.
    """
    before = tokenize(tokenizer, prompt)
    return [*_behind(prompt, before, answer, tokenize(tokenizer, prompt + answer)), closing_token_id(tokenizer)]


def _behind(prompt: str, before: Sequence[int], answer: str, whole: Sequence[int]) -> Sequence[int]:
    """Return the tokens of an answer, behind those `before` it."""
    if whole[: len(before)] != before:
        raise ValueError(f"the answer {answer!r} melts into the last token of the prompt {prompt[-20:]!r}")
    return whole[len(before) :]


def flat_answer_tokens(
    tokenizer: Any, prompt: str, answers: Iterable[str]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the tokens of many answers as `answer_tokens` does, as one flat array.

    Args:
        tokenizer: of a checkpoint.
        prompt: the text before each answer.
        answers: N texts; read once.

    Returns:
        (tokens (T,), start of each answer, and the end of the last (N + 1,)).

    Raises:
        ValueError: an answer changes the prompt's tokenization.
    """
    prompt = _from_last_special_token(tokenizer, prompt)
    before, closing = tokenize(tokenizer, prompt), closing_token_id(tokenizer)
    tokens, ends, rest = array("i"), array("q", [0]), iter(answers)
    while chunk := list(islice(rest, _ANSWERS_AT_ONCE)):
        rows = tokenize_all(tokenizer, [prompt + answer for answer in chunk])
        for answer, whole in zip(chunk, rows, strict=True):
            tokens.extend(_behind(prompt, before, answer, whole))
            tokens.append(closing)
            ends.append(len(tokens))
    return np.frombuffer(tokens, np.int32) if tokens else np.empty(0, np.int32), np.frombuffer(ends, np.int64)


def _from_last_special_token(tokenizer: Any, prompt: str) -> str:
    """Return the end of a prompt that decides how an answer is tokenized: tokenizers split texts at special tokens."""
    start = max((prompt.rfind(token) for token in tokenizer.all_special_tokens), default=0)
    end = prompt[max(start, 0) :]
    before = tokenize(tokenizer, end)
    return end if tokenize(tokenizer, prompt)[-len(before) :] == before else prompt


def left_padded(token_rows: Sequence[Sequence[int]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Return `input_ids` and `attention_mask`, both (B, L), padded on the left."""
    seen = [[1] * len(row) for row in token_rows]
    return {"input_ids": pad(token_rows, pad_token_id, "left"), "attention_mask": pad(seen, 0, "left")}
