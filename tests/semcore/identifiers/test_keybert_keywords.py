"""Keywords by the KeyBERT library: the fast path against it, and its ways to choose against slow ones."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from semcore.data.caption_files import TextItem
from semcore.identifiers.keybert_keywords import keybert_keywords
from semcore.identifiers.keywords import count_words, remove_cluster_words, top_keywords
from semcore.identifiers.sentence_encoder import Encode
from semcore.identifiers.structured import StructuredIdentifiers, build_structured_identifiers

COCO = Path(__file__).parents[4] / "shared" / "data" / "dataset_coco_val2017_captions.json.gz"
WORDS = ("red", "green", "small", "circle", "star", "square", "above", "under", "the", "of", "grass", "sky", "dog")


@pytest.fixture
def ordered(encode: Encode) -> Encode:
    """An encoder that hears the order of words: KeyBERT leaves the order of equally similar ones open."""

    def encode_batch(texts: list[str]) -> np.ndarray:
        own = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(32, np.float32) for text in texts]
        return encode(texts) + 0.3 * np.stack(own)

    return encode_batch


def random_captions(num: int = 60) -> list[str]:
    """Return captions of no to nine words, stop words among them."""
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randrange(10))) for _ in range(num)]


class Corpus:
    """Texts with all that both ways to extract keywords take."""

    def __init__(self, texts: list[str], encode: Encode, ngram_range: tuple[int, int] = (1, 1), **changes: Any) -> None:
        self.texts = texts
        self.counts, self.vocabulary = count_words(texts, ngram_range=ngram_range, **changes)
        self.documents, self.words = encode(texts), encode(self.vocabulary)

    def without(self, *words: str) -> sparse.csr_matrix:
        """Return the candidates but for some cluster words; all texts are of one cluster."""
        banned = [self.vocabulary.index(word) for word in words]
        return remove_cluster_words(self.counts, np.zeros(len(self.texts), dtype=int), [banned])

    def fast(self, num: int, counts: sparse.csr_matrix) -> list[list[str]]:
        return self._named(top_keywords(counts, self.documents, self.words, num))

    def keybert(self, num: int, counts: sparse.csr_matrix, **options: Any) -> list[list[str]]:
        words = keybert_keywords(self.texts, counts, self.vocabulary, self.documents, self.words, num, **options)
        return self._named(words)

    def similarity(self, document: int) -> dict[str, float]:
        """Return the similarity of each of a document's candidates to it."""
        return {
            self.vocabulary[w]: _cosine(self.documents[document], self.words[w]) for w in self.counts[document].indices
        }

    def alike(self, first: str, second: str) -> float:
        return _cosine(*(self.words[self.vocabulary.index(word)] for word in (first, second)))

    def _named(self, keywords: list[list[int]]) -> list[list[str]]:
        return [[self.vocabulary[word] for word in words] for words in keywords]


def _cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


@pytest.mark.parametrize("ngram_range", [(1, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("stop_words", ["english", None])
def test_the_fast_way_finds_keyberts_words(
    ordered: Encode, ngram_range: tuple[int, int], stop_words: str | None
) -> None:
    corpus = Corpus(random_captions(), ordered, ngram_range, stop_words=stop_words)
    frequent = corpus.vocabulary[int(corpus.counts.sum(axis=0).argmax())]
    for counts in (corpus.counts, corpus.without(frequent)):
        fast = corpus.fast(4, counts)
        assert corpus.keybert(4, counts) == fast
        assert [] in fast and any(len(words) == 4 for words in fast)


@pytest.mark.parametrize("options", [{}, {"use_mmr": True, "diversity": 0.6}])
def test_the_words_are_those_of_the_library_used_by_hand(ordered: Encode, options: dict[str, Any]) -> None:
    """With its own vectorizer, and an encoder that it asks itself."""
    from keybert import KeyBERT
    from keybert.backend import BaseEmbedder

    class Asked(BaseEmbedder):
        def embed(self, documents: Any, verbose: bool = False) -> np.ndarray:
            return ordered(list(documents))

    corpus = Corpus(random_captions(), ordered, (1, 2))
    theirs = KeyBERT(Asked()).extract_keywords(corpus.texts, keyphrase_ngram_range=(1, 2), top_n=4, **options)
    assert corpus.keybert(4, corpus.counts, diversity=options.get("diversity")) == [
        [w for w, _ in own] for own in theirs
    ]


@pytest.mark.skipif(not COCO.is_file(), reason=f"real captions are missing: {COCO}")
def test_the_fast_way_finds_keyberts_words_in_real_captions(ordered: Encode) -> None:
    images = json.loads(gzip.decompress(COCO.read_bytes()))["images"][:300]
    corpus = Corpus([image["sentences"][0]["raw"] for image in images], ordered, (1, 2))
    counts = corpus.without("man", "street", "man riding")
    assert corpus.keybert(4, counts) == corpus.fast(4, counts)


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.9])
def test_maximal_marginal_relevance_is_that_of_its_formula(encode: Encode, diversity: float) -> None:
    corpus = Corpus(random_captions(), encode)
    found = corpus.keybert(4, corpus.counts, diversity=diversity)
    for document, words in enumerate(found):
        similarity = corpus.similarity(document)
        chosen: list[str] = []
        while len(chosen) < min(4, len(similarity)):
            best = max(
                similarity.keys() - set(chosen),
                key=lambda word: (
                    (1 - diversity) * similarity[word]
                    - diversity * max((corpus.alike(word, other) for other in chosen), default=-similarity[word])
                ),
            )
            chosen.append(best)
        assert words == sorted(chosen, key=lambda word: -similarity[word])
    assert (found == corpus.fast(4, corpus.counts)) is (diversity == 0)


def test_max_sum_takes_the_words_least_alike_and_never_fewer(encode: Encode) -> None:
    corpus = Corpus(random_captions(), encode)
    found = corpus.keybert(3, corpus.counts, nr_candidates=5)
    for document, words in enumerate(found):
        similarity = corpus.similarity(document)
        nearest = sorted(similarity, key=lambda word: -similarity[word])[:5]
        choices = itertools.combinations(nearest, min(3, len(nearest)))
        least = min(choices, key=lambda choice: sum(corpus.alike(*pair) for pair in itertools.combinations(choice, 2)))
        assert words == sorted(least, key=lambda word: -similarity[word])
    assert found != corpus.fast(3, corpus.counts)
    assert {len(words) for words in found} == {0, 1, 2, 3}


def test_cluster_words_go_before_words_unlike_each_other_are_chosen(encode: Encode) -> None:
    corpus = Corpus(random_captions(), encode, (1, 2))
    for options in ({"diversity": 0.7}, {"nr_candidates": 6}):
        words = [
            word for found in corpus.keybert(4, corpus.without("red", "small circle"), **options) for word in found
        ]
        assert "red" not in words and "small circle" not in words
        assert "circle" in words and any(" " in word for word in words)


def build(texts: list[str], encode: Encode, **changes: Any) -> StructuredIdentifiers:
    items = [TextItem(f"i{n}", "train" if n % 2 else "test", text) for n, text in enumerate(texts)]
    settings: dict[str, Any] = {
        "num_clusters": 3, "num_keywords": 4, "num_cluster_words": 2, "deduplicate": True, "ngram_range": (1, 2),
        "stop_words": "english", "protocol": "inductive", "seed": 0, "num_inits": 1, "max_iterations": 50,
        "max_fit_items": 1000, "tokens_per_batch": 64,
    }  # fmt: skip
    return build_structured_identifiers(items, items[:5], encode, **{**settings, **changes})


def test_identifiers_are_the_same_both_ways(ordered: Encode) -> None:
    """Phrases, cluster words and items without a keyword included."""
    texts = random_captions()
    fast, keybert = (build(texts, ordered, keyword_method=method) for method in ("fast", "keybert"))
    assert keybert.t2i == fast.t2i and keybert.i2t == fast.i2t
    assert any(row["lexical_id"] == [] for row in fast.t2i)
    phrases = [row for row in fast.t2i if any(" " in word for word in row["lexical_id"])]
    assert phrases and all(row["identifier"].endswith(" ".join(row["lexical_id"])) for row in phrases)
    for row in fast.t2i:
        assert not {word for word, _ in fast.cluster_words[row["global_id"]]} & set(row["lexical_id"])


def test_diverse_identifiers_are_others(encode: Encode) -> None:
    texts = random_captions()
    plain, diverse = (build(texts, encode, keyword_method="keybert", diversity=d) for d in (None, 0.8))
    assert plain.cluster_words == diverse.cluster_words
    assert plain.t2i != diverse.t2i
