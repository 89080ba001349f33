"""The ideal reader: the best ranking that perfect reading of sentences and scenes allows.

A speaker picks some objects of a scene at random and states facts about them, so that
p(reading | scene) is proportional to the fraction of ordered choices of objects for which the facts
hold. By Bayes' rule p(scene | reading) follows, and ranking by it is optimal in both directions.
Its errors come from details that sentences leave out, so its recall is the ceiling for any system.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from data_prep.scenes.captions import Reading
from data_prep.scenes.scene_graph import PLACES, Scene


def posterior(readings: Sequence[Reading], scenes: Sequence[Scene]) -> np.ndarray:
    """Return p(scene | reading) over the given scenes, shape (readings, scenes)."""
    facts = _SceneFacts(scenes)
    likelihood = np.stack([facts.likelihood(reading) for reading in readings])
    total = likelihood.sum(axis=1, keepdims=True)
    return np.divide(likelihood, total, out=np.zeros_like(likelihood), where=total > 0)


def expected_recall(scores: np.ndarray, right: np.ndarray, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Return the expected R@K in percent when ties are broken at random.

    Args:
        scores: (queries, items), higher is better.
        right: (queries, items) booleans, true for the relevant items.
        ks: the cut-offs.
    """
    hits = dict.fromkeys(ks, 0.0)
    for row, truth in zip(scores, right, strict=True):
        best = row[truth].max()
        above = int((row > best).sum())
        tied = int((row == best).sum())
        tied_right = int((truth & (row == best)).sum())
        for k in ks:
            hits[k] += _chance_of_a_hit(k - above, tied, tied_right)
    return {f"R@{k}": 100.0 * hits[k] / len(scores) for k in ks}


def ceiling(readings: Sequence[Sequence[Reading]], scenes: Sequence[Scene]) -> dict[str, dict[str, float]]:
    """Return the ideal reader's expected recalls, text -> image and image -> text.

    Args:
        readings: for every scene the readings of its sentences.
        scenes: the scenes that are searched.
    """
    owners = np.array([index for index, own in enumerate(readings) for _ in own])
    probability = np.round(posterior([reading for own in readings for reading in own], scenes), 9)
    right = owners[:, None] == np.arange(len(scenes))[None, :]
    return {
        "t2i": expected_recall(probability, right),
        "i2t": expected_recall(probability.T, right.T),
    }


def _chance_of_a_hit(places: int, tied: int, tied_right: int) -> float:
    """Chance that `places` draws from `tied` items hold at least one of the `tied_right`."""
    if places <= 0:
        return 0.0
    miss = 1.0
    for draw in range(min(places, tied)):
        miss *= max(0, tied - tied_right - draw) / (tied - draw)
    return 1.0 - miss


class _SceneFacts:
    """The scenes as arrays: detail -> (scenes, 4 quadrants), "" where a quadrant is empty."""

    def __init__(self, scenes: Sequence[Scene]):
        self.details = {
            name: np.full((len(scenes), len(PLACES)), "", dtype="<U16") for name in ("size", "colour", "shape", "place")
        }
        for row, scene in enumerate(scenes):
            for item in scene.objects:
                for name, table in self.details.items():
                    table[row, PLACES.index(item.place)] = getattr(item, name)
        self.background = np.array([scene.background for scene in scenes])
        self.count = np.array([len(scene.objects) for scene in scenes])

    def likelihood(self, reading: Reading) -> np.ndarray:
        """Return the fraction of ordered choices of objects that make the reading true, shape (scenes,)."""
        fits = [self._fits(mention) for mention in reading.mentions]
        true = np.zeros(len(self.count))
        for quadrants in permutations(range(len(PLACES)), len(fits)):
            if reading.relation and not _holds(reading.relation, quadrants[0], quadrants[1]):
                continue
            true += np.logical_and.reduce([fit[:, q] for fit, q in zip(fits, quadrants, strict=True)])
        possible = np.ones(len(self.count))
        for taken in range(len(fits)):
            possible *= np.maximum(self.count - taken, 1)
        if reading.background:
            true = true * (self.background == reading.background)
        if reading.count:
            true = true * (self.count == reading.count)
        return true / possible

    def _fits(self, mention: dict[str, str]) -> np.ndarray:
        return np.logical_and.reduce([self.details[name] == value for name, value in mention.items()])


def _holds(relation: str, first: int, second: int) -> bool:
    row, column = divmod(first, 2)
    other_row, other_column = divmod(second, 2)
    return {
        "left": column < other_column,
        "right": column > other_column,
        "above": row < other_row,
        "below": row > other_row,
    }[relation]
