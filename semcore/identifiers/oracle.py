"""Training-free look at identifiers: how well a perfect reader of them would find an item.

A generator that knows what every code or word means, and no more, goes by what a query has in common with an item's
identifier. Where that is at chance, nothing that is trained on these identifiers finds an item it has not seen.

    words    the sum of idf(word) over the keywords, or the cluster, that the query has too
    codes    the number of leading codes that the query's own vector gets too, then the distance from the query's
             vector to what the item's codes stand for

Shapes: (queries, items).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from semcore.data.caption_files import TextItem
from semcore.data.directions import Direction
from semcore.data.identifier_files import NO_CLUSTER, IdentifierRow
from semcore.identifiers.scheme import CodeReader, Identifiers
from semcore.identifiers.words import Segment, split_words
from semcore.runtime.long_lists import chosen

CUTOFFS = (1, 5, 10)
ORACLE_SPLIT = "val"
_QUERIES_AT_ONCE = 256
Score = Callable[[slice], np.ndarray]
"""Scores of some queries against all items (queries, items), higher is better."""


def measure_oracle(
    identifiers: Identifiers,
    captions: Sequence[TextItem],
    sentences: Sequence[TextItem],
    image_of_sentence: Sequence[int],
    segmenter: Segment | None = None,
) -> dict[str, dict[str, Any]]:
    """Return direction -> the oracle's expected recalls on val, equal scores in random order, and those of chance.

    Args:
        identifiers: what a scheme has made.
        captions: of the images.
        sentences: the sentences.
        image_of_sentence: the place of each sentence's image among the captions, or `NO_IMAGE`.
        segmenter: as keywords were found.

    Returns:
        direction -> {"R@1", "R@5", "R@10", "chance": {the same}, "at_chance", "num_queries", "num_items"}; a direction
        without a query in val has none.
    """
    images = [place for place, item in enumerate(captions) if item.split == ORACLE_SPLIT]
    number = {place: rank for rank, place in enumerate(images)}
    asked = [place for place, image in enumerate(image_of_sentence) if image in number]
    if not asked or not identifiers.i2t:
        return {}
    owner = np.array([number[image_of_sentence[place]] for place in asked])
    right = sparse.csr_matrix(
        (np.ones(len(asked), bool), (np.arange(len(asked)), owner)), shape=(len(asked), len(images))
    )
    both = {
        Direction.T2I: (sentences, asked, identifiers.i2t, captions, images, identifiers.t2i, right),
        Direction.I2T: (captions, images, identifiers.t2i, sentences, asked, identifiers.i2t, right.T.tocsr()),
    }
    figures = {}
    for direction, (texts, queries, own_rows, _, items, rows, relevant) in both.items():
        if identifiers.readers is None:
            score = word_scores(
                [texts[place].text for place in queries], [own_rows[place] for place in queries],
                [rows[place] for place in items], chosen(rows, lambda row: row["split"] == "train"), segmenter,
            )  # fmt: skip
        else:
            readers = identifiers.readers if direction.items_are_images else identifiers.readers[::-1]
            assert readers[0] is not None and readers[1] is not None  # there are rows of both
            score = code_scores(_only(readers[1], queries), _only(readers[0], items))
        figures[direction.value] = _figures(score, relevant)
    return figures


def word_scores(
    texts: Sequence[str],
    own_rows: Sequence[IdentifierRow],
    rows: Sequence[IdentifierRow],
    known: Sequence[IdentifierRow],
    segmenter: Segment | None = None,
) -> Score:
    """Return the scores by words, and by clusters.

    Args:
        texts: what the queries, or the captions of the queries, say.
        own_rows: the rows of the queries as items of the other direction, whose clusters are compared.
        rows: the items' rows.
        known: rows that idf is counted over; the items' own where there is none.
        segmenter: of scripts without spaces.
    """
    units = [_units(" ".join(row["lexical_id"]), row, segmenter) for row in rows]
    asked = [_units(text, row, segmenter) for text, row in zip(texts, own_rows, strict=True)]
    counted = known or rows
    place = {unit: index for index, unit in enumerate(sorted(set().union(*units), key=str))}
    frequency = np.ones(len(place))
    for row in counted:
        for unit in _units(" ".join(row["lexical_id"]), row, segmenter) & place.keys():
            frequency[place[unit]] += 1
    idf = np.log((len(counted) + 1) / frequency)
    of_items = _indicators(units, place) @ sparse.diags(idf)
    of_queries = _indicators(asked, place)
    return lambda chosen: np.asarray((of_queries[chosen] @ of_items.T).todense()).round(9)


def code_scores(queries: CodeReader, items: CodeReader) -> Score:
    """Return the scores by leading codes in common, then by distance."""

    def score(chosen: slice) -> np.ndarray:
        codes, vectors = queries.codes[chosen], queries.vectors[chosen]
        same = (codes[:, None, :] == items.codes[None]) & (codes[:, None, :] >= 0)
        leading = np.logical_and.accumulate(same, axis=2).sum(axis=2)
        squares = (vectors**2).sum(1)[:, None] - 2 * vectors @ items.rebuilt.T + (items.rebuilt**2).sum(1)[None]
        distance = np.sqrt(np.maximum(squares, 0))
        return leading - (distance / (distance.max() + 1.0)).round(5)

    return score


def expected_hits(scores: np.ndarray, right: np.ndarray, cutoff: int) -> np.ndarray:
    """Return each query's chance of a right item among the first, equal scores in random order.

    Args:
        scores: (queries, items).
        right: (queries, items) booleans; at least one of each query.
        cutoff: how many items are looked at.

    Returns:
        (queries,), 0 to 1.
    """
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    above, tied = (scores > best).sum(axis=1), scores == best
    places, wrong = np.maximum(cutoff - above, 0), (tied & ~right).sum(axis=1)
    tied = tied.sum(axis=1)
    miss = np.ones(len(scores))
    for draw in range(cutoff):
        drawn = draw < np.minimum(places, tied)
        miss *= np.where(drawn, np.maximum(wrong - draw, 0) / np.maximum(tied - draw, 1), 1.0)
    return 1.0 - miss


def sentence_of(oracle: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a warning where the oracle is at chance, or nothing."""
    lost = [Direction(name).words for name, figures in oracle.items() if figures["at_chance"]]
    if not lost:
        return ""
    return (
        f"what these identifiers say does not tell items of {ORACLE_SPLIT} apart ({' and '.join(lost)}): no training "
        "on them will find an item that was not trained on"
    )


def _figures(score: Score, relevant: sparse.csr_matrix) -> dict[str, Any]:
    num_queries, num_items = relevant.shape
    hits: dict[int, list[np.ndarray]] = {cutoff: [] for cutoff in CUTOFFS}
    chance: dict[int, list[np.ndarray]] = {cutoff: [] for cutoff in CUTOFFS}
    for start in range(0, num_queries, _QUERIES_AT_ONCE):
        chosen = slice(start, start + _QUERIES_AT_ONCE)
        scores, right = score(chosen), relevant[chosen].toarray().astype(bool)
        answerable = right.any(axis=1)
        for cutoff in CUTOFFS:
            hits[cutoff].append(expected_hits(scores[answerable], right[answerable], cutoff))
            chance[cutoff].append(expected_hits(np.zeros_like(scores)[answerable], right[answerable], cutoff))
    found = {cutoff: np.concatenate(values) for cutoff, values in hits.items()}
    random = {cutoff: float(np.concatenate(values).mean()) for cutoff, values in chance.items()}
    return {
        **{f"R@{cutoff}": round(100 * float(values.mean()), 2) for cutoff, values in found.items()},
        "chance": {f"R@{cutoff}": round(100 * value, 2) for cutoff, value in random.items()},
        "at_chance": _is_chance(found[CUTOFFS[-1]], random[CUTOFFS[-1]]),
        "num_queries": num_queries,
        "num_items": num_items,
    }


def _is_chance(hits: np.ndarray, chance: float) -> bool:
    """Tell whether hits are within two standard errors of what chance gives, of fewer items than places never."""
    return chance < 1 and float(hits.mean()) <= chance + 2 * (chance * (1 - chance) / len(hits)) ** 0.5


def _only(reader: CodeReader, places: Sequence[int]) -> CodeReader:
    return CodeReader(*(values[list(places)] for values in reader))


def _units(text: str, row: IdentifierRow, segmenter: Segment | None) -> set[str | int]:
    words: set[str | int] = set(split_words(text.lower(), segmenter))
    return words if row["global_id"] == NO_CLUSTER else words | {row["global_id"]}


def _indicators(units: Sequence[set[str | int]], place: Mapping[str | int, int]) -> sparse.csr_matrix:
    pairs = [(index, place[unit]) for index, own in enumerate(units) for unit in own if unit in place]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    return sparse.csr_matrix((np.ones(len(pairs)), (rows, columns)), shape=(len(units), len(place)))
