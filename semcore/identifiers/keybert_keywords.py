"""Lexical ids by the KeyBERT library itself, with its methods for diverse keywords.

Slower than `keywords.top_keywords`, which finds the same words for the whole corpus at once (held by a test), but with
maximal marginal relevance and max-sum distance.

Shapes: counts (documents, words) sparse, whose entries are the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from tqdm import tqdm


def keybert_keywords(
    texts: Sequence[str],
    counts: sparse.csr_matrix,
    vocabulary: Sequence[str],
    document_embeddings: np.ndarray,
    word_embeddings: np.ndarray,
    num_keywords: int,
    *,
    diversity: float | None = None,
    nr_candidates: int | None = None,
    progress: bool = False,
) -> list[list[int]]:
    """Return each document's keywords as KeyBERT extracts them, the most similar first.

    Args:
        texts: the documents.
        counts: (documents, words), from the vectorizer of `count_words`; a word that was removed from it is no
            candidate, though it occurs in the text.
        vocabulary: the words.
        document_embeddings: (documents, dimensions).
        word_embeddings: (words, dimensions).
        num_keywords: keywords per document, at most.
        diversity: diversity of maximal marginal relevance, 0 to 1; None ranks by similarity alone.
        nr_candidates: choose, among this many most similar candidates, those least similar to each other (max-sum
            distance).
        progress: show a progress bar.
    """
    from keybert import KeyBERT
    from keybert.backend import BaseEmbedder

    library = KeyBERT(BaseEmbedder())  # it embeds nothing: the embeddings are given
    found: list[list[int]] = []
    for document, text in enumerate(tqdm(texts, desc="extracting keywords", unit="text", disable=not progress)):
        candidates = counts.indices[counts.indptr[document] : counts.indptr[document + 1]].tolist()
        if not candidates:
            found.append([])
            continue
        words = [vocabulary[place] for place in candidates]
        pairs = library.extract_keywords(
            text,
            vectorizer=CountVectorizer(vocabulary=words, analyzer=lambda _text, own=words: own),  # counted already
            top_n=num_keywords,
            doc_embeddings=document_embeddings[document : document + 1],
            word_embeddings=word_embeddings[candidates],
            **_selection(diversity, nr_candidates if len(words) > num_keywords else None),
        )
        place_of = dict(zip(words, candidates, strict=True))
        # Max-sum returns no order of similarity; equal ones keep KeyBERT's order.
        found.append([place_of[word] for word, _ in sorted(pairs, key=lambda pair: -pair[1])])
    return found


def _selection(diversity: float | None, nr_candidates: int | None) -> dict[str, Any]:
    """Return KeyBERT's arguments; with fewer candidates than keywords its max-sum would return none."""
    if diversity is not None:
        return {"use_mmr": True, "diversity": diversity}
    return {} if nr_candidates is None else {"use_maxsum": True, "nr_candidates": nr_candidates}
