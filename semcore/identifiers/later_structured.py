"""Structured identifiers of items that come after the clusters were fitted: nothing is learnt about them.

An item gets the nearest centroid, its keywords leave that cluster's words out, and mention rates are those of the
training sentences. So an item gets the identifier that it would have had among the items of val or test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from semcore.data.identifier_files import NO_CLUSTER, identifier_text, make_row, with_more
from semcore.identifiers.clusters import load_centroids, nearest_centroids
from semcore.identifiers.keybert_keywords import keybert_keywords
from semcore.identifiers.keywords import count_words, remove_cluster_words, top_keywords
from semcore.identifiers.mention_rates import (
    CANDIDATES_PER_KEYWORD,
    MentionCount,
    rate_words,
    read_mention_rates,
    select_keywords,
)
from semcore.identifiers.residual import nearest_rows
from semcore.identifiers.scheme import IdentifyLater, LaterItems, LaterRows
from semcore.identifiers.sentence_encoder import Encode, embed
from semcore.identifiers.words import load_segmenter
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json


class LaterIdentifier(NamedTuple):
    """The parts of a later item's identifier: its cluster, or `NO_CLUSTER`, its keywords, and its further ones."""

    global_id: int
    lexical_id: list[str]
    more: list[str]


@dataclass(frozen=True)
class FittedIdentifiers:
    """What a run's identifiers were fitted to.

    Attributes:
        centroids: (clusters, dimensions).
        cluster_words: each cluster's words by TF-IDF.
        mention_counts: of the training split.
        settings: of the stage `identifiers`, as the manifest has them.
    """

    centroids: np.ndarray
    cluster_words: list[list[str]]
    mention_counts: list[MentionCount]
    settings: Mapping[str, Any]


def later_structured(folder: Path, settings: Mapping[str, Any]) -> IdentifyLater:
    """Return the function that gives later items their cluster and keywords; errors as `read_fitted_identifiers`."""
    fitted = read_fitted_identifiers(folder, settings)

    def identify(items: LaterItems) -> LaterRows:
        both = [*items.captions, *items.sentences]
        found = identify_later_items([item.text for item in both], items.encoder(), fitted) if both else []
        rows = [
            with_more(make_row(item.item_id, item.split, own.global_id, own.lexical_id), own.more)
            for item, own in zip(both, found, strict=True)
        ]
        return rows[: len(items.captions)], rows[len(items.captions) :]

    return identify


def read_fitted_identifiers(folder: Path, settings: Mapping[str, Any]) -> FittedIdentifiers:
    """Read what later items need of RUN/identifiers.

    Args:
        folder: RUN/identifiers.
        settings: of the stage `identifiers`.

    Raises:
        UserError: a file is missing or broken.
    """
    try:
        # Not cluster_words.json: it holds no words where identifiers have no global id, but keywords leave them out.
        words = [list(cluster["words"]) for cluster in read_json(folder / "report.json")["clusters"]]
    except (KeyError, TypeError):
        raise UserError(
            f"{folder / 'report.json'} holds no clusters; delete {folder} and make the identifiers again"
        ) from None
    return FittedIdentifiers(load_centroids(folder), words, read_mention_rates(folder), settings)


def identify_later_items(texts: Sequence[str], encode: Encode, fitted: FittedIdentifiers) -> list[LaterIdentifier]:
    """Return the identifier of each text: a caption, or a sentence.

    Args:
        texts: N texts.
        encode: the encoder that the clusters were fitted with, from `load_encoder`.
        fitted: what they were fitted to.
    """
    if not texts:
        return []
    settings = fitted.settings
    embeddings = embed(texts, encode, tokens_per_batch=settings["tokens_per_batch"])
    per_item = settings.get("per_item", 1)  # recorded where it is more
    labels = nearest_centroids(embeddings, fitted.centroids)[:, None]
    if per_item > 1:
        labels = nearest_rows(embeddings, fitted.centroids, per_item)
    keywords = _keywords(texts, embeddings, labels, encode, fitted)
    shown = labels if settings["global_id"] else np.full_like(labels, NO_CLUSTER)
    return [
        LaterIdentifier(clusters[0], words[0], list(map(identifier_text, clusters[1:], words[1:])))
        for clusters, words in zip(shown.tolist(), zip(*keywords, strict=True), strict=True)
    ]


def _keywords(
    texts: Sequence[str], embeddings: np.ndarray, labels: np.ndarray, encode: Encode, fitted: FittedIdentifiers
) -> list[list[list[str]]]:
    """Return each text's keywords, were its cluster the first, the second ... of its labels.

    Args:
        texts: N texts.
        embeddings: (N, dimensions).
        labels: (N, identifiers an item).
        encode: the encoder.
        fitted: what the clusters were fitted to.
    """
    settings = fitted.settings
    try:
        counts, vocabulary = count_words(
            texts,
            ngram_range=tuple(settings["ngram_range"]),
            stop_words=None if settings["stop_words"] == "none" else settings["stop_words"],
            segmenter=load_segmenter(settings["segmenter"]) if settings["segmenter"] else None,
        )
    except UserError:  # not one text holds a word: the cluster is all there is to say
        return [[[] for _ in texts]] * labels.shape[1]
    word_embeddings = embed(vocabulary, encode, tokens_per_batch=settings["tokens_per_batch"])
    num_keywords, choice = settings["num_keywords"], settings["keyword_choice"]
    num_candidates = num_keywords * (CANDIDATES_PER_KEYWORD if choice == "mention_rate" else 1)
    rates = rate_words(fitted.mention_counts, vocabulary)
    keywords = []
    for clusters in labels.T:
        left = counts
        if settings["deduplicate"]:
            left = remove_cluster_words(counts, clusters, _places(fitted.cluster_words, vocabulary))
        candidates = _candidates(texts, left, vocabulary, embeddings, word_embeddings, num_candidates, settings)
        selected = select_keywords(candidates, rates, num_keywords, choice=choice, order=settings["keyword_order"])
        keywords.append([[vocabulary[word] for word in own] for own in selected])
    return keywords


def _candidates(
    texts: Sequence[str],
    counts: sparse.csr_matrix,
    vocabulary: Sequence[str],
    embeddings: np.ndarray,
    word_embeddings: np.ndarray,
    num_candidates: int,
    settings: Mapping[str, Any],
) -> list[list[int]]:
    """Return the words of each text that are most similar to it.

    Shapes: counts (N, words), embeddings (N, dimensions), word_embeddings (words, dimensions).
    """
    if settings["keyword_method"] != "keybert":
        return top_keywords(counts, embeddings, word_embeddings, num_candidates)
    return keybert_keywords(
        texts, counts, vocabulary, embeddings, word_embeddings, num_candidates,
        diversity=settings["diversity"], nr_candidates=settings["nr_candidates"],
    )  # fmt: skip


def _places(cluster_words: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> list[list[int]]:
    """Return each cluster's words as places in the vocabulary, without those that it lacks."""
    places = {word: place for place, word in enumerate(vocabulary)}
    return [[places[word] for word in words if word in places] for words in cluster_words]
