"""Wordings of what an image shows: two of its sentences, one with a typo, and a sentence of another image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from semcore.data.dataset import ImageRecord
from semcore.runtime.errors import UserError

TWO, TYPO, DIFFERENT = PAIRS = ("two sentences", "one typo", "different images")
_WORD = re.compile(r"[^\W\d_]{5,}")


class Wordings(NamedTuple):
    """A sentence of an image, and what it is compared with: kind of pair -> the other sentence."""

    image_id: str
    sentence: str
    others: dict[str, str]


def draw_wordings(records: Sequence[ImageRecord], num_images: int, seed: int) -> list[Wordings]:
    """Draw images of two different sentences or more, two sentences of each, a typo, and a sentence of another one.

    Raises:
        UserError: there are fewer than two such images.
    """
    rng = np.random.default_rng(seed)
    texts = {own.image_id: list(dict.fromkeys(sentence.text for sentence in own.sentences)) for own in records}
    several = sorted(image_id for image_id, own in texts.items() if len(own) > 1)
    if len(several) < 2:
        raise UserError(f"two test images with two different sentences are needed, found {len(several)}")
    drawn = rng.permutation(several)[:num_images].tolist()
    pairs = [[texts[image_id][place] for place in rng.permutation(len(texts[image_id]))[:2]] for image_id in drawn]
    wordings = []
    for number, (image_id, (sentence, other)) in enumerate(zip(drawn, pairs, strict=True)):
        foreign = pairs[number - 1][0]
        wrong = with_typo(sentence, rng)
        typed = {} if wrong is None else {TYPO: wrong}
        wordings.append(Wordings(image_id, sentence, {TWO: other, **typed, DIFFERENT: foreign}))
    return wordings


def with_typo(sentence: str, rng: np.random.Generator) -> str | None:
    """Return a sentence without one letter of one of its words of five letters or more; None where it has none.

    >>> with_typo("a red circle", np.random.default_rng(0))
    'a red circl'
    """
    words = list(_WORD.finditer(sentence))
    if not words:
        return None
    word = words[rng.integers(len(words))]
    place = int(rng.integers(word.start(), word.end()))
    return sentence[:place] + sentence[place + 1 :]
