"""Codes as identifiers: their tokens, their rows, the words of what carries a code, and their figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from semcore.data.caption_files import TextItem
from semcore.data.dataset import SPLITS
from semcore.data.identifier_files import NO_CLUSTER, IdentifierRow, cluster_token, code_row
from semcore.identifiers.collisions import Numbered
from semcore.identifiers.keywords import count_words
from semcore.identifiers.tfidf import top_words, weigh_words

Texts = Sequence[str]
"""The tokens of an identifier, in order."""


def code_token(level: int, code: int, shared: bool) -> str:
    """Return the token of a code; one codebook for all levels has no levels in its tokens.

    >>> code_token(0, 17, shared=False), code_token(0, 17, shared=True)
    ('<|code_0_17|>', '<|code_17|>')
    """
    return f"<|code_{code}|>" if shared else f"<|code_{level}_{code}|>"


def number_token(number: int) -> str:
    """Return the token that tells items with the same codes apart."""
    return f"<|same_{number}|>"


def known_numbers(tokens: Collection[str]) -> list[int]:
    """Return the numbers that there are tokens for, ascending.

    >>> known_numbers(["<|code_7|>", "<|same_1|>", "<|same_2|>"])
    [1, 2]
    """
    known = set(tokens)
    return [number for number in range(len(known) + 1) if number_token(number) in known]


def modality_token(are_images: bool) -> str:
    """Return the token that says what an item is (GENIUS puts it first)."""
    return "<|item_image|>" if are_images else "<|item_text|>"


def identifier_tokens(
    codes: Iterable[int],
    *,
    shared: bool,
    first: Sequence[str] = (),
    cluster: int = NO_CLUSTER,
    number: int | None = None,
) -> tuple[str, ...]:
    """Return the tokens of an identifier.

    Args:
        codes: level by level.
        shared: whether one codebook serves all levels.
        first: tokens that stand first.
        cluster: the cluster before the codes, or `NO_CLUSTER`.
        number: what tells it from others with the same codes.
    """
    coarse = () if cluster == NO_CLUSTER else (cluster_token(cluster),)
    own = tuple(code_token(level, code, shared) for level, code in enumerate(codes))
    return (*first, *coarse, *own, *(() if number is None else (number_token(number),)))


def code_rows(
    items: Sequence[TextItem],
    clusters: Sequence[int],
    numbered: Sequence[Numbered],
    texts: Sequence[Sequence[Texts]],
) -> list[IdentifierRow]:
    """Return the rows of items.

    Args:
        items: the items.
        clusters: the cluster of each, or `NO_CLUSTER`.
        numbered: codes and number of each.
        texts: the tokens of each identifier of each item, the best first.
    """
    return [
        code_row(
            item.item_id,
            item.split,
            cluster,
            [*codes, *([] if number is None else [number])],
            ["".join(t) for t in own],
        )
        for item, cluster, (codes, number), own in zip(items, clusters, numbered, texts, strict=True)
    ]


def token_words(
    captions: Sequence[str], tokens: Sequence[Texts], wanted: Sequence[str], num_words: int
) -> list[list[str]]:
    """Return the words that tell most of the captions that carry a token, by the weight that clusters' words have.

    Args:
        captions: what may be learnt from.
        tokens: the tokens of each of them.
        wanted: the tokens that words are found for.
        num_words: words a token, at most.

    Returns:
        The words of each wanted token, best first; none for one that nothing carries.
    """
    counts, vocabulary = count_words(captions)
    place = {token: index for index, token in enumerate(wanted)}
    pairs = [(place[token], item) for item, own in enumerate(tokens) for token in own if token in place]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    carries = sparse.csr_matrix((np.ones(len(pairs)), (rows, columns)), shape=(len(wanted), len(captions)))
    weights = weigh_words(sparse.csr_matrix(carries @ counts))
    return [[vocabulary[word] for word, _ in own] for own in top_words(weights, num_words)]


def level_figures(codes: np.ndarray, sizes: Sequence[int]) -> list[dict[str, float]]:
    """Return, for each level of codes (N, M), how many of its codes are used, their share, and their perplexity."""
    figures = []
    for own, size in zip(codes.T, sizes, strict=True):
        _, counts = np.unique(own, return_counts=True)
        share = counts / counts.sum()
        perplexity = float(np.exp(-(share * np.log(share)).sum()))
        figures.append(
            {"used": len(counts), "percent": round(100 * len(counts) / size, 2), "perplexity": round(perplexity, 2)}
        )
    return figures


def variance_left(
    vectors: np.ndarray, rebuilt: np.ndarray, splits: Sequence[str], fitted: Sequence[int]
) -> dict[str, float]:
    """Return split -> the share of its vectors' variance around the fitted ones' mean that codes do not tell.

    Args:
        vectors: (N, d).
        rebuilt: (N, d), what their codes stand for.
        splits: of each.
        fitted: the places of those that were learnt from.
    """
    mean, shares = vectors[list(fitted)].mean(axis=0), {}
    for split in SPLITS:
        own = [place for place, name in enumerate(splits) if name == split]
        total = float(((vectors[own] - mean) ** 2).sum())
        if total > 0:
            shares[split] = round(float(((vectors[own] - rebuilt[own]) ** 2).sum()) / total, 4)
    return shares


def collision_figures(rule: str, before: Sequence[Any], rows: Sequence[IdentifierRow]) -> dict[str, Any]:
    """Return how many identifiers items have before and after the rule, and the largest groups of equal ones."""
    earlier, after = Counter(before), Counter(row["identifier"] for row in rows)
    return {
        "rule": rule,
        "num_items": len(rows),
        "num_codes": len(earlier),
        "largest_group_of_codes": max(earlier.values(), default=0),
        "num_identifiers": len(after),
        "largest_group": max(after.values(), default=0),
    }


def mean_length(texts: Sequence[Sequence[Texts]]) -> float:
    """Return the mean number of tokens of items' first identifiers."""
    return round(sum(len(own[0]) for own in texts) / max(len(texts), 1), 2)


def token_vectors(tokens: Sequence[str], vectors: Mapping[str, np.ndarray], dimensions: int) -> np.ndarray:
    """Return the vectors (T, e) of tokens; NaN for a token without one."""
    missing = np.full(dimensions, np.nan, np.float32)
    return np.stack([np.asarray(vectors.get(token, missing), np.float32) for token in tokens])
