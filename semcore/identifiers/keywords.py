"""Lexical ids: KeyBERT's keywords, computed for the whole corpus at once.

KeyBERT compares a document's embedding with those of its n-grams. Document by document that embeds
the same n-grams again and again; here every n-gram of the corpus is embedded once, and all
comparisons are one ragged operation. The keywords are KeyBERT's own (held by a test).

Shapes: counts (documents, words) sparse; an entry of it is a pair (document, candidate).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from semcore.identifiers.words import Segment, word_vectorizer
from semcore.runtime.errors import UserError

_PAIRS_AT_ONCE = 65_536
# Embeddings of one text in batches of different composition differ by up to 2e-7; similarities this close are a tie.
_DECIMALS = 6


def count_words(
    texts: Sequence[str],
    *,
    ngram_range: tuple[int, int] = (1, 1),
    stop_words: str | None = "english",
    segmenter: Segment | None = None,
) -> tuple[sparse.csr_matrix, list[str]]:
    """Count the n-grams of texts with the vectorizer that KeyBERT and TF-IDF share.

    Words hold letters, their marks, digits and underscores only, in lower case. So a keyword never
    holds the < | > of a special token, whatever a caption says.

    Args:
        texts: N texts.
        ngram_range: fewest and most words per keyword.
        stop_words: "english", or None to keep all words.
        segmenter: for scripts without spaces; see `semcore.identifiers.words`.

    Returns:
        (counts (N, words), the words in alphabetical order).

    Raises:
        UserError: not one text holds a word.
    """
    vectorizer = word_vectorizer(ngram_range=ngram_range, stop_words=stop_words, segmenter=segmenter)
    try:
        counts = sparse.csr_matrix(vectorizer.fit_transform(texts))
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        raise UserError(
            f"none of the {len(texts)} captions and sentences holds a word that could be a keyword; "
            "look at captions.jsonl, or try --stop-words none"
        ) from None
    counts.sort_indices()
    return counts, vectorizer.get_feature_names_out().tolist()


def remove_cluster_words(
    counts: sparse.csr_matrix, labels: np.ndarray, cluster_words: Sequence[Sequence[int]]
) -> sparse.csr_matrix:
    """Remove the words of each document's cluster from its candidates, by exact match (paper, section 3.2.2).

    Args:
        counts: (documents, words).
        labels: (documents,), the cluster of each.
        cluster_words: the words to remove, cluster by cluster.

    Returns:
        (documents, words), without the removed pairs.
    """
    num_words = counts.shape[1]
    banned = [cluster * num_words + word for cluster, words in enumerate(cluster_words) for word in words]
    pairs = labels[_documents(counts)].astype(np.int64) * num_words + counts.indices
    kept = counts.copy()
    kept.data[np.isin(pairs, np.asarray(banned, dtype=np.int64))] = 0
    kept.eliminate_zeros()
    return kept


def top_keywords(
    counts: sparse.csr_matrix, document_embeddings: np.ndarray, word_embeddings: np.ndarray, num_keywords: int
) -> list[list[int]]:
    """Return each document's candidates of greatest cosine similarity to it, best first.

    Candidates of equal similarity stand in alphabetical order.

    Args:
        counts: (documents, words), whose entries are the candidates.
        document_embeddings: (documents, dimensions).
        word_embeddings: (words, dimensions).
        num_keywords: keywords per document, at most.
    """
    documents = _documents(counts)
    similarity = _cosines(document_embeddings, word_embeddings, documents, counts.indices).round(_DECIMALS)
    words = counts.indices[np.lexsort((counts.indices, -similarity, documents))]
    return [
        words[start : min(start + num_keywords, end)].tolist()
        for start, end in zip(counts.indptr[:-1], counts.indptr[1:], strict=True)
    ]


def _documents(counts: sparse.csr_matrix) -> np.ndarray:
    """Return the document of each pair."""
    return np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))


def _cosines(left: np.ndarray, right: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the cosine of left[row] and right[column] of each pair, a chunk of pairs at a time."""
    left, right = _unit(left), _unit(right)
    cosines = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        chunk = slice(start, start + _PAIRS_AT_ONCE)
        cosines[chunk] = np.einsum("pd,pd->p", left[rows[chunk]], right[columns[chunk]])
    return cosines


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Divide each vector by its length; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)
