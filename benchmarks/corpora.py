"""Synthetic identifiers at any size, shaped like those of real captions.

The figures they follow were measured on 31,014 real captions (128 clusters, four KeyBERT words): 7.4 tokens per
identifier; after the cluster token and one keyword 47 % of the identifiers are alone under their node, after two 92 %;
a cluster's median fan-out is 141, the largest 458; 1.4 % of the items share their identifier with another.
`python -m benchmarks.identifier_statistics` measures the same figures on any corpus, these included.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VOCABULARY = 151_674
NUM_CLUSTERS, NUM_KEYWORDS = 128, 4
WORDS_OF_A_CLUSTER, WORDS = 3_000, 14_000
WORD_LENGTHS = (0.72, 0.22, 0.06)
"""Fractions of words of one, two and three tokens."""
NUM_PIECES = 1_900
"""Distinct tokens among the second and third ones of words."""
CLUSTER_SPREAD = 0.7
"""Standard deviation of the logarithm of the clusters' sizes."""
RANK_OFFSET = 1
"""A cluster's word of rank r has a frequency proportional to 1 / (r + this)."""
COPIED_SHARE = 0.007
"""Fraction of items that have another item's identifier."""
FIRST_TOKEN = 1_000
END_TOKEN = VOCABULARY - 1


class Corpus(NamedTuple):
    """Identifiers as a flat array."""

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    item_ids: list[str]

    def sequences(self) -> list[list[int]]:
        """Return the identifiers as lists, from which dictionaries are built."""
        tokens, bounds = self.tokens.tolist(), self.offsets.tolist()
        return [tokens[begin:end] for begin, end in pairwise(bounds)]


def synthetic_corpus(num_items: int, seed: int = 0) -> Corpus:
    """Draw identifiers: a cluster token, four words of one to three tokens, the end token."""
    generator = np.random.default_rng(seed)
    sizes = np.exp(generator.normal(0, CLUSTER_SPREAD, NUM_CLUSTERS))
    clusters = generator.choice(NUM_CLUSTERS, num_items, p=sizes / sizes.sum()).astype(np.int32)
    words = _words(clusters, generator)
    copies = np.flatnonzero(generator.random(num_items) < COPIED_SHARE)
    originals = generator.integers(0, num_items, len(copies))
    clusters[copies], words[copies] = clusters[originals], words[originals]
    word_tokens, word_lengths = _spellings(generator)
    lengths = word_lengths[words].sum(axis=1) + 2
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.empty(int(offsets[-1]), dtype=np.int32)
    tokens[offsets[:-1]] = VOCABULARY - 1 - NUM_CLUSTERS + clusters
    tokens[offsets[1:] - 1] = END_TOKEN
    places = offsets[:-1] + 1
    for column in range(NUM_KEYWORDS):
        for piece in range(len(WORD_LENGTHS)):
            has = word_lengths[words[:, column]] > piece
            tokens[places[has]] = word_tokens[words[has, column], piece]
            places += has
    return Corpus(tokens, offsets, [f"{number:08d}" for number in range(num_items)])


def _words(clusters: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.int32]:
    """Draw the keywords of each item (items, keywords): each cluster ranks the words in its own order."""
    shares = np.cumsum(1 / (np.arange(WORDS_OF_A_CLUSTER) + RANK_OFFSET))
    draws = generator.random((len(clusters), NUM_KEYWORDS), dtype=np.float32) * shares[-1]
    ranks = np.searchsorted(shares, draws).clip(max=WORDS_OF_A_CLUSTER - 1).astype(np.int32)
    orders = np.stack([generator.permutation(WORDS)[:WORDS_OF_A_CLUSTER] for _ in range(NUM_CLUSTERS)])
    return orders.astype(np.int32)[clusters[:, None], ranks]


def _spellings(generator: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the tokens of each word (words, 3) and how many it has (words,)."""
    lengths = generator.choice(len(WORD_LENGTHS), WORDS, p=WORD_LENGTHS) + 1
    tokens = FIRST_TOKEN + NUM_PIECES + np.arange(WORDS, dtype=np.int32)[:, None].repeat(len(WORD_LENGTHS), axis=1)
    longer = lengths > 1
    tokens[longer, 0] = FIRST_TOKEN + generator.integers(0, NUM_PIECES, longer.sum())
    tokens[:, 1:] = FIRST_TOKEN + generator.integers(0, NUM_PIECES, (WORDS, len(WORD_LENGTHS) - 1))
    return tokens, lengths
