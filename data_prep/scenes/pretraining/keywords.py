"""Keywords of descriptions and sentences, as identifiers have them, for the base checkpoint's lessons."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.scenes.captions import describe, write_sentence
from data_prep.scenes.scene_graph import Scene
from semcore.identifiers.keywords import count_words, top_keywords
from semcore.identifiers.sentence_encoder import embed, load_encoder
from semcore.runtime.files import read_jsonl, write_jsonl

NUM_KEYWORDS = 8  # more than an identifier has: a cluster's words are left out of it


class KeywordExample(NamedTuple):
    """A scene and a sentence of it, each with its keywords, best first."""

    scene: int
    sentence: str
    of_description: list[str]
    of_sentence: list[str]


def keep_examples(path: Path, scenes: Sequence[Scene], num_examples: int, seed: int) -> list[KeywordExample]:
    """Return the result of `write_examples`, cached in a JSONL file, as it takes minutes."""
    if not path.exists():
        write_jsonl(path, (example._asdict() for example in write_examples(scenes, num_examples, seed)))
    return [KeywordExample(**row) for row in read_jsonl(path)]


def write_examples(scenes: Sequence[Scene], num_examples: int, seed: int) -> list[KeywordExample]:
    """Draw scenes, write a sentence about each and extract the keywords that KeyBERT would."""
    rng = random.Random(seed)
    chosen = rng.sample(range(len(scenes)), num_examples)
    sentences = [write_sentence(scenes[index], rng)[0] for index in chosen]
    keywords = _find_keywords([*(describe(scenes[index]) for index in chosen), *sentences])
    found = zip(chosen, sentences, keywords[:num_examples], keywords[num_examples:], strict=True)
    return [KeywordExample(*example) for example in found]


def _find_keywords(texts: Sequence[str]) -> list[list[str]]:
    encode = load_encoder()
    counts, vocabulary = count_words(texts)
    found = top_keywords(counts, embed(texts, encode, progress=True), embed(vocabulary, encode), NUM_KEYWORDS)
    return [[vocabulary[word] for word in words] for words in found]
