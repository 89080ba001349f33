"""What a model writes about an image: the caption that identifiers are made from (paper, section 3.2.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from transformers import GenerationConfig

from semcore.checkpoint import Checkpoint
from semcore.embedding import make_prompts, model_inputs
from semcore.features import FeatureStore, encode_pictures
from semcore.prompting import IMAGE, Prompts

Outcome = Literal["ok", "unreadable", "empty", "truncated", "failed"]


class Caption(NamedTuple):
    """What became of one image; `text` is empty unless it is "ok" or "truncated".

    "failed" is a server's: it gave no caption of an image that can be read.
    """

    image_id: str
    outcome: Outcome
    text: str = ""
    reason: str = ""


def caption_images(
    checkpoint: Checkpoint,
    prompts: Prompts,
    images: Sequence[str],
    features: FeatureStore,
    *,
    max_new_tokens: int,
    num_beams: int = 1,
) -> list[Caption]:
    """Caption one batch of images; what cannot be read is said in its place.

    Args:
        checkpoint: the model that writes.
        prompts: holds the prompt "caption".
        images: ids.
        features: of a dataset that the images belong to.
        max_new_tokens: a caption that has not ended by then is cut off, and counted as truncated.
        num_beams: 1 is greedy decoding.

    Returns:
        One caption an image, in the order of `images`.
    """
    seen = features.readable(images)
    written = captions_of_features(
        checkpoint, prompts, list(seen.values()), max_new_tokens=max_new_tokens, num_beams=num_beams
    )
    captions = {
        image_id: Caption(image_id, "empty" if not text else "ok" if ended else "truncated", text)
        for image_id, (text, ended) in zip(seen, written, strict=True)
    }
    return [
        captions.get(image_id) or Caption(image_id, "unreadable", reason=features.failed[image_id])
        for image_id in images
    ]


def write_captions(
    checkpoint: Checkpoint,
    prompts: Prompts,
    pictures: Sequence[Image.Image],
    *,
    max_new_tokens: int,
    num_beams: int = 1,
) -> list[tuple[str, bool]]:
    """Return (caption, whether it came to its end) of every picture of a batch."""
    features = encode_pictures(checkpoint, pictures)
    return captions_of_features(checkpoint, prompts, features, max_new_tokens=max_new_tokens, num_beams=num_beams)


@torch.inference_mode()
def captions_of_features(
    checkpoint: Checkpoint,
    prompts: Prompts,
    features: Sequence[torch.Tensor],
    *,
    max_new_tokens: int,
    num_beams: int = 1,
) -> list[tuple[str, bool]]:
    """Return (caption, whether it came to its end) of every image of a batch, from its features (V, H)."""
    if not features:
        return []
    turn = prompts.render("caption", image=IMAGE)
    inputs = model_inputs(checkpoint, make_prompts(checkpoint, [turn] * len(features), [[own] for own in features]))
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
        eos_token_id=checkpoint.end_token_id,
        pad_token_id=checkpoint.tokenizer.pad_token_id,
    )
    # Given embeddings instead of tokens, `generate` returns the answer's tokens only.
    answers = checkpoint.model.generate(**inputs, generation_config=settings).tolist()
    return [_read_answer(checkpoint, answer) for answer in answers]


def caption_stats(captions: Iterable[Caption]) -> dict[str, Any]:
    """Count the outcomes and list every image that is not "ok", for captions.stats.json."""
    counts: Counter[str] = Counter({"ok": 0, "unreadable": 0, "empty": 0, "truncated": 0, "failed": 0})
    listed: dict[str, list[Any]] = {
        "unreadable_images": [], "empty_images": [], "truncated_images": [], "failed_images": []
    }  # fmt: skip
    for caption in captions:
        counts[caption.outcome] += 1
        if caption.outcome in ("unreadable", "failed"):
            listed[f"{caption.outcome}_images"].append({"image_id": caption.image_id, "reason": caption.reason})
        elif caption.outcome != "ok":
            listed[f"{caption.outcome}_images"].append(caption.image_id)
    return {**counts, "num_images": counts.total(), **listed}


def _read_answer(checkpoint: Checkpoint, tokens: list[int]) -> tuple[str, bool]:
    ended = checkpoint.end_token_id in tokens
    if ended:
        tokens = tokens[: tokens.index(checkpoint.end_token_id)]
    text = checkpoint.tokenizer.decode(tokens, skip_special_tokens=True)
    return " ".join(text.split()), ended
