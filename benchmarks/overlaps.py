"""Overlaps of the best items for different wordings: means, bootstrap intervals over images, rows and a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row, higher_is_better
from benchmarks.wordings import DIFFERENT, PAIRS, TWO, TYPO, Wordings
from semcore.evaluation.statistics import bootstrap_interval
from semcore.runtime.markdown_tables import markdown_table


class Measure(NamedTuple):
    """What is said of the best items of one search.

    Attributes:
        name: what finds them, and how many count.
        overlaps: kind of pair -> of each image that has such a pair, in percent (images,).
        found: kind of pair -> in percent of the images, whether the right one is among the best for the other sentence.
        found_first: the same for the sentence itself.
    """

    name: str
    overlaps: Mapping[str, NDArray[np.float64]]
    found: Mapping[str, float]
    found_first: float


def overlap(first: Sequence[str], second: Sequence[str], size: int) -> float:
    """Return which part of the best items of two rankings is the same, in percent.

    >>> overlap(["a", "b", "c"], ["b", "d", "a"], size=2)
    50.0
    """
    one, other = set(first[:size]), set(second[:size])
    return 100 * len(one & other) / max(len(one), len(other))


def measure(name: str, wordings: Sequence[Wordings], best: Mapping[str, Sequence[str]], size: int) -> Measure:
    """Compare the best items for each sentence and for what stands beside it.

    Args:
        name: of the measure.
        wordings: the sentences.
        best: sentence -> ids of items, the best first.
        size: how many of them count.
    """

    def found(pairs: Iterator[tuple[str, str]]) -> float:
        return 100 * float(np.mean([image_id in best[text][:size] for image_id, text in pairs]))

    kinds = [kind for kind in PAIRS if any(kind in own.others for own in wordings)]
    overlaps = {
        kind: np.array([overlap(best[w.sentence], best[w.others[kind]], size) for w in wordings if kind in w.others])
        for kind in kinds
    }
    later = {
        kind: found((w.image_id, w.others[kind]) for w in wordings if kind in w.others)
        for kind in kinds
        if kind != DIFFERENT
    }
    return Measure(name, overlaps, later, found((w.image_id, w.sentence) for w in wordings))


def rows_of(own: Measure) -> Iterator[Row]:
    """Yield the overlap of each kind of pair beside that of different images."""
    floor = own.overlaps[DIFFERENT]
    for kind in own.found:
        values = own.overlaps[kind]
        note = (
            f"{len(values)} images; {_interval(values)}, different images {_interval(floor)}; the right image is among "
            f"them for {own.found_first:.1f} % of the sentences, {own.found[kind]:.1f} % of the others"
        )
        yield higher_is_better(f"{own.name}, {kind}", float(values.mean()), float(floor.mean()), "percent", note)


def table_of(measures: Sequence[Measure], num_images: int, num_items: int) -> str:
    """Return the overlaps as markdown, a line a measure."""
    lines = [
        (
            own.name,
            *(
                f"{own.overlaps[k].mean():.1f} {_interval(own.overlaps[k])}" if k in own.overlaps else "–"
                for k in PAIRS
            ),
            f"{own.found_first:.1f}",
            *(f"{own.found[kind]:.1f}" if kind in own.found else "–" for kind in (TWO, TYPO)),
        )
        for own in measures
    ]
    found = ("right image, sentence", "right image, another", "right image, typo")
    table = markdown_table(("of", *PAIRS, *found), lines, num_texts=1)
    return (
        f"Overlap of the best items in %, {num_images} test images, {num_items} items, 95 % bootstrap intervals over "
        f"images; and for how many sentences the right image is among them, in %:\n\n{table}\n"
    )


def _interval(values: NDArray[np.float64]) -> str:
    low, high = bootstrap_interval(values)
    return f"[{low:.1f}, {high:.1f}]"
