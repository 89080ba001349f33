"""Captions by a local model, from which identifiers are made (paper, section 3.2.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from PIL import Image
from transformers import GenerationConfig

from semcore.models.batching import make_prompts, model_inputs
from semcore.models.captioning.caption_text import read_caption
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import IMAGE, Prompts
from semcore.models.visual_features import FeatureStore, encode_pictures
from semcore.runtime.text import clean_text

Outcome = Literal["ok", "truncated", "unreadable", "empty", "thoughts", "refused", "filtered", "failed"]
WRITTEN: tuple[Outcome, ...] = ("ok", "truncated")
"""Outcomes of images that have a caption; all others are left out."""
NO_END = "it thought aloud until its tokens ran out: more --max-new-tokens, or a model that answers at once"


class Caption(NamedTuple):
    """The outcome of one image; `text` is empty unless the outcome is one of `WRITTEN`.

    "thoughts" thinks aloud and never comes to a caption, "refused" declines. "filtered" and "failed" are a
    server's: its filter held the answer back, or it gave none of an image that can be read.
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
    """Caption one batch of images; an image that cannot be read has the outcome "unreadable".

    Args:
        checkpoint: the model that writes.
        prompts: holds the prompt "caption".
        images: ids.
        features: of a dataset that the images belong to.
        max_new_tokens: a longer caption is cut off and counted as truncated.
        num_beams: 1 is greedy decoding.

    Returns:
        One caption per image, in the order of `images`.
    """
    seen = features.readable(images)
    written = captions_of_features(
        checkpoint, prompts, list(seen.values()), max_new_tokens=max_new_tokens, num_beams=num_beams
    )
    captions = {
        image_id: as_caption(image_id, text, ended) for image_id, (text, ended) in zip(seen, written, strict=True)
    }
    return [
        captions.get(image_id) or Caption(image_id, "unreadable", reason=features.failed[image_id])
        for image_id in images
    ]


def as_caption(image_id: str, answer: str, ended: bool) -> Caption:
    """Return the outcome of an image from the model's answer: its caption, or why there is none.

    Args:
        image_id: the image it is about.
        answer: what the model wrote.
        ended: whether the answer ended by itself, rather than at `max_new_tokens`.
    """
    kind, text = read_caption(answer)
    match kind:
        case "ok":
            return Caption(image_id, "ok" if ended else "truncated", text)
        case "refused":
            return Caption(image_id, "refused", reason=text[:200])
        case "thoughts":
            return Caption(image_id, "thoughts", reason=NO_END)
    return Caption(image_id, "empty")


def write_captions(
    checkpoint: Checkpoint,
    prompts: Prompts,
    images: Sequence[Image.Image],
    *,
    max_new_tokens: int,
    num_beams: int = 1,
) -> list[tuple[str, bool]]:
    """Return (caption, whether it ended by itself) of every image of a batch."""
    features = encode_pictures(checkpoint, images)
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
    """Return (caption, whether it ended by itself) of a batch of images, from features (visual tokens, hidden)."""
    if not features:
        return []
    turn = prompts.render("caption", image=IMAGE)
    inputs = model_inputs(checkpoint, make_prompts(checkpoint, [turn] * len(features), [[own] for own in features]))
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
        eos_token_id=checkpoint.end_token_ids,
        pad_token_id=checkpoint.filler_token_id,
    )
    # Given embeddings instead of tokens, `generate` returns the answer's tokens only.
    answers = checkpoint.model.generate(**inputs, generation_config=settings).tolist()
    return [_read_answer(checkpoint, answer) for answer in answers]


def caption_stats(captions: Iterable[Caption]) -> dict[str, Any]:
    """Count the outcomes and list every image that is not "ok", for captions.stats.json."""
    counts: Counter[str] = Counter(dict.fromkeys(get_args(Outcome), 0))
    listed: dict[str, list[Any]] = {f"{outcome}_images": [] for outcome in counts if outcome != "ok"}
    for caption in captions:
        counts[caption.outcome] += 1
        if caption.outcome in ("empty", "truncated"):
            listed[f"{caption.outcome}_images"].append(caption.image_id)
        elif caption.outcome != "ok":
            listed[f"{caption.outcome}_images"].append({"image_id": caption.image_id, "reason": caption.reason})
    return {**counts, "num_images": counts.total(), **listed}


def _read_answer(checkpoint: Checkpoint, tokens: list[int]) -> tuple[str, bool]:
    ends = [place for place, token in enumerate(tokens) if token in checkpoint.end_token_ids]
    text = checkpoint.tokenizer.decode(tokens[: ends[0]] if ends else tokens, skip_special_tokens=True)
    return clean_text(text), bool(ends)
