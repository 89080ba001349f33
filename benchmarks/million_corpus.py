"""Source of a large synthetic corpus: images with a sentence each, their captions, and the embeddings of both.

Images are links to a hundred small pictures. Sentences and captions are drawn, 8 to 14 words of English each, as
frequent as they are. The embedding of a text is the mean of its words' random vectors, in the files that
`data_prep.identifiers --embeddings` keeps and reads.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_prep.scenes.pretraining.model import common_words
from semcore.identifiers.keywords import count_words
from semcore.identifiers.sentence_encoder import DEFAULT_ENCODER, Encode, embed, embed_to_file
from semcore.runtime.files import hash_of
from semcore.runtime.long_lists import joined, kept

DIMENSIONS = 384
NUM_PICTURES = 100  # links to one file are limited to 65,000 on common file systems
MOST_OTHERS = 1_000  # items of val, and of test
TEXTS_AT_ONCE = 10_000
FEWEST, MOST = 8, 14  # words of a text


def make_source(folder: Path, num_items: int, seed: int = 0) -> None:
    """Write dataset.json and images in Karpathy's layout, captions.jsonl and embeddings.

    Args:
        folder: an empty one.
        num_items: images.
        seed: of texts and vectors.
    """
    words = common_words()
    captions, sentences = (kept(draw_texts(words, num_items, np.random.default_rng((seed, part)))) for part in (0, 1))
    _write_images(folder / "images", num_items)
    _write_dataset(folder / "dataset.json", sentences)
    with (folder / "captions.jsonl").open("w") as handle:
        for number, caption in enumerate(captions):
            handle.write(json.dumps({"image_id": image_id(number), "caption": caption}) + "\n")
    embeddings = folder / "embeddings"
    embeddings.mkdir()
    encode = synthetic_encoder(words, embeddings, seed)
    texts = joined(captions, sentences)
    embed_to_file(texts, encode)
    seen = {word for text in texts for word in text.split()}
    embed(count_words([" ".join(sorted(seen))])[1], encode)


def draw_texts(words: list[str], number: int, generator: np.random.Generator) -> Iterator[str]:
    """Draw texts, the n-th word with a frequency of 1/n."""
    shares = np.cumsum(1 / np.arange(1, len(words) + 1))
    for start in range(0, number, TEXTS_AT_ONCE):
        lengths = generator.integers(FEWEST, MOST + 1, min(TEXTS_AT_ONCE, number - start))
        ranks = np.searchsorted(shares, generator.random(lengths.sum()) * shares[-1]).clip(max=len(words) - 1)
        drawn = iter(ranks.tolist())
        for length in lengths.tolist():
            yield " ".join(words[next(drawn)] for _ in range(length))


def image_id(number: int) -> str:
    """Return the id of an image."""
    return f"item-{number:08d}"


def synthetic_encoder(words: list[str], folder: Path, seed: int) -> Encode:
    """Return an encoder of texts made of these words that leaves every batch in the file where it is looked for."""
    vectors = np.random.default_rng((seed, 2)).standard_normal((len(words), DIMENSIONS), np.float32)
    place = {word: rank for rank, word in enumerate(words)}

    def encode(texts: list[str]) -> np.ndarray:
        ranks = [[place[word] for word in text.split()] for text in texts]
        starts = np.cumsum([0, *map(len, ranks[:-1])])
        rows = np.add.reduceat(vectors[[rank for own in ranks for rank in own]], starts, axis=0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        np.save(folder / f"{hash_of(DEFAULT_ENCODER, texts)}.npy", rows, allow_pickle=False)
        return rows

    return encode


def _write_images(folder: Path, num_items: int) -> None:
    folder.mkdir()
    pictures = [folder.parent / f"{number}.jpg" for number in range(NUM_PICTURES)]
    for number, path in enumerate(pictures):
        Image.effect_noise((32, 24), number).save(path)
    for number in range(num_items):
        (folder / f"{image_id(number)}.jpg").hardlink_to(pictures[number % NUM_PICTURES])


def _write_dataset(path: Path, sentences: Any) -> None:
    others = min(MOST_OTHERS, len(sentences) // 100)
    with path.open("w") as handle:
        handle.write('{"images": [')
        for number, text in enumerate(sentences):
            split = "val" if number < others else "test" if number < 2 * others else "train"
            sentence = {"raw": text, "imgid": number, "sentid": number}
            entry = {"filename": f"{image_id(number)}.jpg", "imgid": number, "split": split, "sentences": [sentence]}
            handle.write(("," if number else "") + json.dumps(entry))
        handle.write('], "dataset": "synthetic"}')


if __name__ == "__main__":
    make_source(Path(sys.argv[1]), int(sys.argv[2]))
