"""What a model writes about an image: the caption that identifiers are made from (paper, section 3.2.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from transformers import GenerationConfig

from semcore.checkpoint import Checkpoint
from semcore.dataset import open_image
from semcore.embedding import make_prompts, model_inputs
from semcore.errors import UnreadableImage
from semcore.features import encode_pictures
from semcore.prompting import IMAGE, Prompts

Outcome = Literal["ok", "unreadable", "empty", "truncated"]


class Caption(NamedTuple):
    """What became of one image; `text` is empty unless it is "ok" or "truncated"."""

    image_id: str
    outcome: Outcome
    text: str = ""
    reason: str = ""


def caption_images(
    checkpoint: Checkpoint, prompts: Prompts, images: Mapping[str, Path], *, max_new_tokens: int, num_beams: int = 1
) -> list[Caption]:
    """Caption one batch of image files; what cannot be read is said in its place.

    Args:
        checkpoint: the model that writes.
        prompts: holds the prompt "caption".
        images: image id -> file.
        max_new_tokens: a caption that has not ended by then is cut off, and counted as truncated.
        num_beams: 1 is greedy decoding.

    Returns:
        One caption an image, in the order of `images`.
    """
    captions: dict[str, Caption] = {}
    readable: dict[str, Image.Image] = {}
    for image_id, path in images.items():
        try:
            readable[image_id] = open_image(path)
        except UnreadableImage as error:
            captions[image_id] = Caption(image_id, "unreadable", reason=str(error))
    written = write_captions(
        checkpoint, prompts, list(readable.values()), max_new_tokens=max_new_tokens, num_beams=num_beams
    )
    for image_id, (text, ended) in zip(readable, written, strict=True):
        outcome: Outcome = "empty" if not text else "ok" if ended else "truncated"
        captions[image_id] = Caption(image_id, outcome, text)
    return [captions[image_id] for image_id in images]


@torch.inference_mode()
def write_captions(
    checkpoint: Checkpoint,
    prompts: Prompts,
    pictures: Sequence[Image.Image],
    *,
    max_new_tokens: int,
    num_beams: int = 1,
) -> list[tuple[str, bool]]:
    """Return (caption, whether it came to its end) of every picture of a batch."""
    if not pictures:
        return []
    turn = prompts.render("caption", image=IMAGE)
    features = encode_pictures(checkpoint, pictures)
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
    counts: Counter[str] = Counter({"ok": 0, "unreadable": 0, "empty": 0, "truncated": 0})
    listed: dict[str, list[Any]] = {"unreadable_images": [], "empty_images": [], "truncated_images": []}
    for caption in captions:
        counts[caption.outcome] += 1
        if caption.outcome == "unreadable":
            listed["unreadable_images"].append({"image_id": caption.image_id, "reason": caption.reason})
        elif caption.outcome != "ok":
            listed[f"{caption.outcome}_images"].append(caption.image_id)
    return {**counts, "num_images": counts.total(), **listed}


def _read_answer(checkpoint: Checkpoint, tokens: list[int]) -> tuple[str, bool]:
    ended = checkpoint.end_token_id in tokens
    if ended:
        tokens = tokens[: tokens.index(checkpoint.end_token_id)]
    text = checkpoint.tokenizer.decode(tokens, skip_special_tokens=True)
    return " ".join(text.split()), ended
