"""Cross-fitted fusions: each query of the fitting split is ranked by a fusion that was fitted without it.

Scores on val with weights fitted on the same queries would be biased. So val is divided into folds, and a fold is
ranked with weights fitted on the other folds.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

from semcore.verification.score_fusion import Fusion, fit_fusion

NUM_FOLDS = 5


def cross_fit(
    generator: Sequence[Sequence[float]],
    verifier: Sequence[Sequence[float]],
    right: Sequence[Sequence[bool]],
    *,
    contents: Sequence[str],
    groups: Sequence[Hashable],
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
        alone: leave the generator's score out.
        num_folds: number of folds; fewer where there are fewer groups.
    """
    fold_of_group = _deal(groups, num_folds)
    fold_of = {content: fold_of_group[group] for content, group in zip(contents, groups, strict=True)}
    fusions: dict[int, Fusion] = {}
    for fold in sorted(set(fold_of.values())):
        kept = [
            number
            for number, (content, group) in enumerate(zip(contents, groups, strict=True))
            if fold not in (fold_of[content], fold_of_group[group])
        ]
        others = [generator[number] for number in kept], [verifier[number] for number in kept]
        fusions[fold] = fit_fusion(*others, [right[number] for number in kept], alone=alone)
    return {content: fusions[fold] for content, fold in fold_of.items()}


def _deal(groups: Sequence[Hashable], num_folds: int) -> dict[Hashable, int]:
    """Return group -> fold, a random partition, the same for the same groups."""
    distinct = list(dict.fromkeys(groups))
    random.Random(0).shuffle(distinct)
    return {group: number % num_folds for number, group in enumerate(distinct)}
