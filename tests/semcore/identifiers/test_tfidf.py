"""Equation 2 against a computation by hand and against a slow one."""

from __future__ import annotations

from collections import Counter
from math import log

import numpy as np
import pytest
from scipy import sparse

from semcore.identifiers.keywords import count_words, remove_cluster_words
from semcore.identifiers.tfidf import sum_by_cluster, top_words, weigh_words

# Two clusters: {dog 3, park 1, ball 1} of 5 words and {cat 1, ball 2} of 3; A = (5 + 3) / 2 = 4.
TEXTS = ["A dog, a dog in the park", "dog and ball", "cat with ball", "the ball"]
LABELS = np.array([0, 0, 1, 1])


def test_equation_2_as_computed_by_hand() -> None:
    counts, vocabulary = count_words(TEXTS)
    weights = weigh_words(sum_by_cluster(counts, LABELS, 2)).toarray()
    assert vocabulary == ["ball", "cat", "dog", "park"]
    assert weights == pytest.approx(
        np.array(
            [
                [1 / 5 * log(1 + 4 / 3), 0, 3 / 5 * log(1 + 4 / 3), 1 / 5 * log(1 + 4 / 1)],
                [2 / 3 * log(1 + 4 / 3), 1 / 3 * log(1 + 4 / 1), 0, 0],
            ]
        )
    )
    assert weights[0] == pytest.approx([0.169460, 0, 0.508379, 0.321888], abs=1e-6)


def test_the_words_of_a_cluster_are_removed_from_its_items_only() -> None:
    counts, vocabulary = count_words(TEXTS)
    best = top_words(weigh_words(sum_by_cluster(counts, LABELS, 2)), 1)
    assert [[vocabulary[word] for word, _ in cluster] for cluster in best] == [["dog"], ["ball"]]
    left = remove_cluster_words(counts, LABELS, [[word for word, _ in cluster] for cluster in best])
    assert [[vocabulary[word] for word in left[row].indices] for row in range(4)] == [["park"], ["ball"], ["cat"], []]


def test_random_counts_give_what_a_loop_over_dictionaries_gives() -> None:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(0.3, size=(60, 25)))
    labels = rng.integers(0, 5, size=60)
    clusters: list[Counter[int]] = [Counter() for _ in range(5)]
    for row, label in zip(counts.toarray(), labels, strict=True):
        clusters[label].update({word: int(count) for word, count in enumerate(row) if count})
    mean = sum(cluster.total() for cluster in clusters) / 5
    expected = np.zeros((5, 25))
    for index, cluster in enumerate(clusters):
        for word, count in cluster.items():
            everywhere = sum(other[word] for other in clusters)
            expected[index, word] = count / cluster.total() * log(1 + mean / everywhere)
    assert weigh_words(sum_by_cluster(counts, labels, 5)).toarray() == pytest.approx(expected)


def test_equal_weights_stand_in_alphabetical_order() -> None:
    counts, vocabulary = count_words(["zebra yak ant"])
    best = top_words(weigh_words(sum_by_cluster(counts, np.array([0]), 1)), 2)
    assert [vocabulary[word] for word, _ in best[0]] == ["ant", "yak"]


def test_a_cluster_without_items_or_with_few_words_has_fewer_words() -> None:
    counts, _ = count_words(["dog park"])
    best = top_words(weigh_words(sum_by_cluster(counts, np.array([1]), 3)), 5)
    assert [len(cluster) for cluster in best] == [0, 2, 0]
