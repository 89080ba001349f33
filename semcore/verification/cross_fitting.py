"""Cross-fitted fusions: each query of the fitting split is ranked by a fusion that was fitted without it.

Scores on val with weights fitted on the same queries would be biased. So val is divided into folds, and a fold is
ranked with weights fitted on the other folds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from semcore.verification.score_fusion import Fusion, fit_fusion

T = TypeVar("T")
NUM_FOLDS = 5


def cross_fit(
    generator: Sequence[Sequence[float]],
    verifier: Sequence[Sequence[float]],
    right: Sequence[Sequence[bool]],
    *,
    contents: Sequence[str],
    groups: Sequence[Hashable],
    further: Mapping[str, Sequence[Sequence[float]]] | None = None,
    alone: bool = False,
    num_folds: int = NUM_FOLDS,
) -> dict[str, Fusion]:
    """Return query -> a fusion that was fitted without it and without all queries of its group.

    Args:
        generator: the generator's log-probabilities, one row per query.
        verifier: the verifier's, in the same order.
        right: which candidates are relevant.
        contents: the content of each query; equal ones have one ranking, and so one fold.
        groups: queries that belong together, such as the sentences of an image.
        further: name -> further scores, in the same order.
        alone: leave all scores but the verifier's out.
        num_folds: number of folds; fewer where there are fewer groups.
    """

    def fit(kept: list[int]) -> Fusion:
        others = [generator[number] for number in kept], [verifier[number] for number in kept]
        more = {name: [own[number] for number in kept] for name, own in (further or {}).items()}
        return fit_fusion(*others, [right[number] for number in kept], further=more, alone=alone)

    return fit_without_each(fit, contents=contents, groups=groups, num_folds=num_folds)


def fit_without_each(
    fit: Callable[[list[int]], T],
    *,
    contents: Sequence[str],
    groups: Sequence[Hashable],
    num_folds: int = NUM_FOLDS,
) -> dict[str, T]:
    """Return what was asked -> what is fitted without it and without any query of its group.

    Args:
        fit: takes the numbers of the queries to learn from.
        contents: as in `cross_fit`.
        groups: as in `cross_fit`.
        num_folds: folds; fewer where there are fewer groups.
    """
    fold_of_group = _deal(groups, num_folds)
    fold_of = {content: fold_of_group[group] for content, group in zip(contents, groups, strict=True)}
    fitted: dict[int, T] = {}
    for fold in sorted(set(fold_of.values())):
        kept = [
            number
            for number, (content, group) in enumerate(zip(contents, groups, strict=True))
            if fold not in (fold_of[content], fold_of_group[group])
        ]
        fitted[fold] = fit(kept)
    return {content: fitted[fold] for content, fold in fold_of.items()}


def _deal(groups: Sequence[Hashable], num_folds: int) -> dict[Hashable, int]:
    """Return group -> fold, a random partition, the same for the same groups."""
    distinct = list(dict.fromkeys(groups))
    random.Random(0).shuffle(distinct)
    return {group: number % num_folds for number, group in enumerate(distinct)}
