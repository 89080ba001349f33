"""Structured identifiers (paper, section 3.2) of captions and sentences.

Both directions share one set of clusters, so a cluster token means one thing: k-means is fitted on
captions, and sentences get the nearest centroid.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter
from typing import Any

import numpy as np

from semcore.data.caption_files import NO_IMAGE, TextItem
from semcore.data.identifier_files import IdentifierRow, identifier_text, make_row, with_more
from semcore.identifiers.clusters import fit_centroids, nearest_centroids
from semcore.identifiers.keybert_keywords import keybert_keywords
from semcore.identifiers.keywords import count_words, remove_cluster_words, top_keywords
from semcore.identifiers.mention_rates import (
    CANDIDATES_PER_KEYWORD,
    Criterion,
    MentionCount,
    count_mentions,
    fit_mention_rates,
    measure_mentions,
    rate_words,
    require_train_sentences,
    select_keywords,
)
from semcore.identifiers.residual import nearest_rows
from semcore.identifiers.sentence_encoder import Encode, embed, embed_to_file
from semcore.identifiers.tfidf import sum_by_cluster, top_words, weigh_words
from semcore.identifiers.words import Segment
from semcore.runtime.errors import UserError
from semcore.runtime.long_lists import Viewed, joined, kept, kept_numbers

_ITEMS_AT_ONCE = 65_536


@dataclass(frozen=True)
class StructuredIdentifiers:
    """The result of `build_structured_identifiers`.

    Attributes:
        t2i: the rows of the images, in the order of the captions.
        i2t: the rows of the sentences, in their order.
        centroids: (clusters, dimensions).
        cluster_words: each cluster's words of greatest TF-IDF weight with the weight, best first.
        num_fitted: number of captions that each cluster was fitted on.
        num_with_word: number of images, and of sentences, whose text has a word that could be a keyword.
        mention_counts: what the mention rates of keywords are made of, from the training split.
        mentions: how many sentences say the images' keywords, from `measure_mentions`.
    """

    t2i: Sequence[IdentifierRow]
    i2t: Sequence[IdentifierRow]
    centroids: np.ndarray
    cluster_words: list[list[tuple[str, float]]]
    num_fitted: list[int]
    num_with_word: tuple[int, int]
    mention_counts: list[MentionCount]
    mentions: dict[str, dict[str, Any]]


def fitted_on(captions: Sequence[TextItem], protocol: str, num_clusters: int) -> Sequence[int]:
    """Return the positions of the captions that clusters and cluster words are fitted on.

    Args:
        captions: of all splits.
        protocol: "inductive", the training split's captions, so that nothing is learnt about a test
            item; "transductive", the captions of all splits.
        num_clusters: how many clusters.

    Raises:
        UserError: fewer captions than clusters.
    """
    fits = (place for place, item in enumerate(captions) if protocol == "transductive" or item.split == "train")
    chosen = array("i", fits)
    if len(chosen) < num_clusters:
        which = "captions of the split train" if protocol == "inductive" else "captions"
        way_out = f"choose --num-clusters {len(chosen)} or less" if chosen else "caption images of that split first"
        raise UserError(f"{num_clusters} clusters need at least as many {which}, found {len(chosen)}; {way_out}")
    return chosen


def build_structured_identifiers(
    captions: Sequence[TextItem],
    sentences: Sequence[TextItem],
    encode: Encode,
    *,
    num_clusters: int,
    num_keywords: int,
    num_cluster_words: int,
    deduplicate: bool,
    ngram_range: tuple[int, int],
    stop_words: str | None,
    segmenter: Segment | None = None,
    protocol: str,
    seed: int,
    num_inits: int,
    max_iterations: int,
    max_fit_items: int,
    tokens_per_batch: int,
    keyword_method: str = "fast",
    diversity: float | None = None,
    nr_candidates: int | None = None,
    keyword_choice: Criterion = "similarity",
    keyword_order: Criterion = "similarity",
    image_of_sentence: Sequence[int] | None = None,
    per_item: int = 1,
    progress: bool = False,
) -> StructuredIdentifiers:
    """Give every image (by its caption) and every sentence an identifier.

    The defaults and their sources are in `data_prep.identifiers`.

    Args:
        captions: the items of text -> image, all splits.
        sentences: the items of image -> text, all splits.
        encode: embeds a batch of texts, from `load_encoder`.
        num_clusters: k of k-means.
        num_keywords: keywords per item, at most.
        num_cluster_words: words by TF-IDF that characterise a cluster.
        deduplicate: leave a cluster's words out of its items' keywords.
        ngram_range: fewest and most words per keyword.
        stop_words: "english" or None.
        segmenter: for scripts without spaces; see `semcore.identifiers.words`.
        protocol: see `fitted_on`.
        seed: of k-means.
        num_inits: see `fit_centroids`.
        max_iterations: likewise.
        max_fit_items: likewise.
        tokens_per_batch: about how many tokens are embedded at once.
        keyword_method: "fast", all items at once, or "keybert", the library itself; both find the same words.
        diversity: of KeyBERT's maximal marginal relevance, see `keybert_keywords`.
        nr_candidates: of KeyBERT's max-sum distance, likewise.
        keyword_choice: keep the most similar candidates, or of the `CANDIDATES_PER_KEYWORD` times as many most
            similar ones those with the greatest mention rate.
        keyword_order: put the most similar keyword first, or that with the greatest mention rate.
        image_of_sentence: the place of each sentence's image among the captions, or `NO_IMAGE`; without it nothing
            is known of mentions.
        per_item: identifiers an item: with each of its nearest clusters, and the keywords that this one leaves.
        progress: show progress bars.

    Raises:
        UserError: fewer captions than clusters, no word in any text, or mention rates without training sentences.
    """
    chosen = np.asarray(fitted_on(captions, protocol, num_clusters))
    image_of_sentence = [NO_IMAGE] * len(sentences) if image_of_sentence is None else image_of_sentence
    if "mention_rate" in (keyword_choice, keyword_order):
        require_train_sentences(captions, image_of_sentence)
    items = joined(captions, sentences)
    texts = Viewed(items, attrgetter("text"))
    counts, vocabulary = count_words(texts, ngram_range=ngram_range, stop_words=stop_words, segmenter=segmenter)

    found = np.diff(counts.indptr) > 0
    mentions = count_mentions(counts[len(captions) :], image_of_sentence, len(captions))
    options: dict[str, Any] = {"tokens_per_batch": tokens_per_batch, "progress": progress}
    embeddings = embed_to_file(texts, encode, description="captions and sentences", **options)
    centroids = fit_centroids(
        embeddings,
        num_clusters,
        among=chosen,
        seed=seed,
        num_inits=num_inits,
        max_iterations=max_iterations,
        max_fit_items=max_fit_items,
    )
    labels = nearest_centroids(embeddings, centroids)
    weights = weigh_words(sum_by_cluster(counts[chosen], labels[chosen], num_clusters))
    words = top_words(weights, num_cluster_words)
    word_embeddings = embed(vocabulary, encode, description="words", **options)
    num_candidates = num_keywords * (CANDIDATES_PER_KEYWORD if keyword_choice == "mention_rate" else 1)

    def candidates_of(block: slice, own: np.ndarray) -> list[list[int]]:
        """Return the keywords of some items, were these their clusters."""
        left = counts[block]
        if deduplicate:
            left = remove_cluster_words(left, own[block], [[word for word, _ in cluster] for cluster in words])
        if keyword_method == "keybert":
            return keybert_keywords(
                list(texts[block]), left, vocabulary, embeddings[block], word_embeddings, num_candidates,
                diversity=diversity, nr_candidates=nr_candidates, progress=progress,
            )  # fmt: skip
        return top_keywords(left, embeddings[block], word_embeddings, num_candidates)

    blocks = [slice(start, start + _ITEMS_AT_ONCE) for start in range(0, len(items), _ITEMS_AT_ONCE)]

    def candidates_in(own: np.ndarray) -> Sequence[list[int]]:
        return kept_numbers(words for block in blocks for words in candidates_of(block, own))

    candidates = candidates_in(labels)
    is_train = (item.split == "train" for item in captions)
    mention_counts = fit_mention_rates(candidates[: len(captions)], mentions, is_train, vocabulary)
    rates = rate_words(mention_counts, vocabulary)
    keywords = select_keywords(candidates, rates, num_keywords, choice=keyword_choice, order=keyword_order)
    further: list[tuple[np.ndarray, Sequence[list[int]]]] = []
    if per_item > 1:
        nearest = np.concatenate([nearest_rows(embeddings[block], centroids, per_item) for block in blocks])
        for other in nearest.T[1:]:
            further.append(
                (
                    other,
                    select_keywords(
                        candidates_in(other), rates, num_keywords, choice=keyword_choice, order=keyword_order
                    ),
                )
            )

    def rows_of(some: Sequence[TextItem], first: int) -> Sequence[IdentifierRow]:
        """Return the rows of items, whose first is the n-th of all."""
        own = slice(first, first + len(some))
        others = [zip(clusters[own].tolist(), lists[own], strict=True) for clusters, lists in further]
        texts_of = zip(*others, strict=True) if others else repeat(())
        rows = (
            with_more(
                make_row(item.item_id, item.split, int(label), [vocabulary[word] for word in own_words]),
                [identifier_text(cluster, [vocabulary[word] for word in other]) for cluster, other in more],
            )
            for item, label, own_words, more in zip(some, labels[own], keywords[own], texts_of, strict=False)
        )
        return kept(rows)

    return StructuredIdentifiers(
        t2i=rows_of(captions, 0),
        i2t=rows_of(sentences, len(captions)),
        centroids=centroids,
        cluster_words=[[(vocabulary[word], weight) for word, weight in cluster] for cluster in words],
        num_fitted=np.bincount(labels[chosen], minlength=num_clusters).tolist(),
        num_with_word=(int(found[: len(captions)].sum()), int(found[len(captions) :].sum())),
        mention_counts=mention_counts,
        mentions=measure_mentions(keywords[: len(captions)], mentions, [item.split for item in captions]),
    )
