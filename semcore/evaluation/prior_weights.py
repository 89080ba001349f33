"""Weights of the identifiers' prior in the generator's score, fitted on val by direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from semcore.retrieval.batch import SplitView
from semcore.retrieval.hits import GeneratedHit
from semcore.verification.conditional_logit import fit_conditional_logit
from semcore.verification.cross_fitting import fit_without_each

CAUTION = 10  # ours: as if so many queries more had said 0; nothing beside hundreds

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class PriorWeight:
    """The prior's weight in one direction, and for what val asks one that was fitted without it."""

    overall: float
    held_out: Mapping[str, float] = field(default_factory=dict)

    def of(self, split: str, content: str) -> float:
        """Return the weight for what was asked in a split, or in a fold of it."""
        return self.held_out.get(content, self.overall) if split.split()[0] == "val" else self.overall


def fit_weight(scores: Rows, priors: Rows, right: Sequence[Sequence[bool]]) -> float:
    """Return the weight w, 0 to 1, with which score - w * prior tells right candidates from wrong ones best.

    A conditional logit of two scores, log p(identifier | query) and what is left of it with the whole prior off. Their
    coefficients are 0 or more, and the second one's share is the weight. Few queries leave it near 0, none at 0.

    Args:
        scores: log p(identifier | query) of each query's candidates.
        priors: log p(identifier) of the same.
        right: which candidates are right.
    """
    without = [[score - prior for score, prior in zip(*row, strict=True)] for row in zip(scores, priors, strict=True)]
    fitted = fit_conditional_logit((without, scores), right)
    if fitted is None or not fitted.sum() > 0:
        return 0.0
    num_queries = sum(any(row) and not all(row) for row in right)
    return float(fitted[0] / fitted.sum()) * num_queries / (num_queries + CAUTION)


def fit_prior_weight(
    view: SplitView, hits: Mapping[str, Sequence[GeneratedHit]], priors: Mapping[str, float]
) -> PriorWeight:
    """Fit the weight on the queries of val; a query asked twice counts twice.

    Args:
        view: one direction of val.
        hits: what it asks -> what the generator found, with the paper's scores.
        priors: identifier -> log p(identifier).
    """
    answers = [(content, view.queries.relevant[query]) for query, content in view.queries.contents.items()]
    scores = [[hit.score for hit in hits[content]] for content, _ in answers]
    own = [[priors[hit.identifier] for hit in hits[content]] for content, _ in answers]
    right = [[hit.item_id in answer for hit in hits[content]] for content, answer in answers]

    def fit(kept: Sequence[int]) -> float:
        found, off = ([column[number] for number in kept] for column in (scores, own))
        return fit_weight(found, off, [right[number] for number in kept])

    groups = [tuple(sorted(answer)) for _, answer in answers]  # the sentences of an image have the same answer
    held_out = fit_without_each(fit, contents=[content for content, _ in answers], groups=groups)
    return PriorWeight(fit(range(len(answers))), held_out)
