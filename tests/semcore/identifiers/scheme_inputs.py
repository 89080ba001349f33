"""Inputs of identifier schemes: a few items around a few centres, in all splits, with two sentences an image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from semcore.data.caption_files import TextItem
from semcore.identifiers.code_settings import CodeSettings
from semcore.identifiers.scheme import SchemeInputs, Vectors

WORDS = ("circle", "square", "star", "ring")
SPLITS = ("train", "train", "train", "val", "test")


def scheme_inputs(num_images: int = 40, seed: int = 0, protocol: str = "inductive", **codes: Any) -> SchemeInputs:
    """Return inputs whose sentences lie near their image's vector, 8 dimensions."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(num_images) % len(WORDS)
    centres = rng.normal(size=(len(WORDS), 8)) * 3
    images = (centres[kinds] + rng.normal(size=(num_images, 8))).astype(np.float32)
    owners = np.repeat(np.arange(num_images), 2)
    sentences = (images[owners] + 0.1 * rng.normal(size=(2 * num_images, 8))).astype(np.float32)
    splits = [SPLITS[place % len(SPLITS)] for place in range(num_images)]
    captions = [TextItem(f"i{n}", splits[n], f"a {WORDS[kinds[n]]} here") for n in range(num_images)]
    texts = [TextItem(f"s{n}", splits[own], f"one {WORDS[kinds[own]]}") for n, own in enumerate(owners)]
    fitted = [n for n, split in enumerate(splits) if protocol == "transductive" or split == "train"]
    return SchemeInputs(
        captions, texts, owners.tolist(), fitted, structured=lambda: 1 / 0,  # type: ignore[arg-type,return-value]
        vectors=lambda: Vectors(images, sentences), codes=CodeSettings(**codes),
    )  # fmt: skip


def only_images(inputs: SchemeInputs, kept: list[int]) -> SchemeInputs:
    """Return the inputs with some images alone, by their places, and the sentences about them."""
    vectors: Any = inputs.vectors()
    place = {old: new for new, old in enumerate(kept)}
    said = [n for n, image in enumerate(inputs.image_of_sentence) if image in place]
    return replace(
        inputs,
        captions=[inputs.captions[n] for n in kept],
        sentences=[inputs.sentences[n] for n in said],
        image_of_sentence=[place[inputs.image_of_sentence[n]] for n in said],
        fitted=[place[n] for n in inputs.fitted],
        vectors=lambda: Vectors(vectors.images[kept], vectors.sentences[said]),
    )
