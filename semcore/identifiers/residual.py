"""Residual quantisation: a vector as the sum of one row of each of several codebooks, the nearest level by level.

Shapes: N vectors of d dimensions; books (M, C, d), M levels of C codes; codes (N, M).
"""

from __future__ import annotations

import numpy as np

from semcore.identifiers.clusters import fit_centroids, nearest_centroids


def fit_residual_books(
    vectors: np.ndarray,
    num_levels: int,
    num_codes: int,
    *,
    seed: int,
    num_inits: int,
    max_iterations: int,
    max_fit_items: int,
) -> np.ndarray:
    """Fit k-means to the vectors, then to what each level leaves of them.

    Args:
        vectors: (N, d), at least `num_codes` of them.
        num_levels: how many codebooks.
        num_codes: rows of each.
        seed: of the first level; the others count on from it.
        num_inits: see `fit_centroids`.
        max_iterations: likewise.
        max_fit_items: likewise.

    Returns:
        (M, C, d), float32.
    """
    rest = np.array(vectors, np.float32)
    books = []
    for level in range(num_levels):
        book = fit_centroids(
            rest, num_codes, seed=(seed + level) % 2**32,
            num_inits=num_inits, max_iterations=max_iterations, max_fit_items=max_fit_items,
        )  # fmt: skip
        books.append(book)
        rest = rest - book[nearest_centroids(rest, book)]
    return np.stack(books)


def encode(vectors: np.ndarray, books: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
    """Return the codes (N, M): at each level the row nearest to what is left; the lowest of equals.

    Args:
        vectors: (N, d).
        books: (M, C, d).
        first: (N,), codes of the first level that are given instead.
    """
    rest, codes = np.array(vectors, np.float32), np.empty((len(vectors), len(books)), np.int64)
    for level, book in enumerate(books):
        codes[:, level] = first if first is not None and level == 0 else nearest_centroids(rest, book)
        rest -= book[codes[:, level]]
    return codes


def decode(codes: np.ndarray, books: np.ndarray) -> np.ndarray:
    """Return the sums (N, d) of the codes' rows; codes (N, M), books (M, C, d)."""
    return np.asarray(sum(book[own] for book, own in zip(books, codes.T, strict=True)), np.float32)


def nearest_rows(vectors: np.ndarray, book: np.ndarray, num: int) -> np.ndarray:
    """Return the `num` rows of a book nearest to each vector, nearest first; of equals the lowest.

    Args:
        vectors: (N, d).
        book: (C, d).
        num: rows a vector, at most C.

    Returns:
        (N, num).
    """
    squares = (book.astype(np.float64) ** 2).sum(axis=1)
    distances = squares - 2 * vectors.astype(np.float64) @ book.T.astype(np.float64)
    return np.argsort(distances, axis=1, kind="stable")[:, :num]


def last_codes(vector: np.ndarray, codes: np.ndarray, books: np.ndarray) -> np.ndarray:
    """Return all codes of the last level for one vector (d,), nearest first (C,).

    Args:
        vector: (d,).
        codes: its codes (M,), of which the last is free.
        books: (M, C, d).
    """
    rest = vector - sum((book[code] for book, code in zip(books[:-1], codes[:-1], strict=True)), np.zeros_like(vector))
    return nearest_rows(rest[None], books[-1], len(books[-1]))[0]
