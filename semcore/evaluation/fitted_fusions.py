"""Fusions of a verifier, fitted on val, and the rankings they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from semcore.retrieval.batch import SplitKey, SplitView
from semcore.retrieval.shortlist import Shortlist, rank
from semcore.verification import Fusion, fit_fusion
from semcore.verification.cross_fitting import cross_fit

Ranking = list[tuple[str, float]]


@dataclass(frozen=True)
class Fitted:
    """A verifier's fusion in one direction, and for each query of val a fusion that was fitted without it."""

    overall: Fusion
    held_out: Mapping[str, Fusion] = field(default_factory=dict)

    def of(self, split: str, content: str) -> Fusion:
        """Return the fusion that ranks a query of a split, or of a fold of it."""
        return self.held_out.get(content, self.overall) if split.split()[0] == "val" else self.overall


def fit(
    view: SplitView, shortlists: Sequence[Shortlist], scores: Sequence[Sequence[float]], *, alone: bool = False
) -> Fitted:
    """Fit a verifier's fusion on the queries of val; a query that occurs twice counts twice.

    Args:
        view: one direction of val.
        shortlists: the shortlists of its queries.
        scores: the verifier's score of each candidate.
        alone: leave all scores but the verifier's out.
    """
    places = {shortlist.query: number for number, shortlist in enumerate(shortlists)}
    answers = [(content, view.queries.relevant[query]) for query, content in view.queries.contents.items()]
    chosen = [shortlists[places[content]] for content, _ in answers]
    rows = [own.generator for own in chosen], [scores[places[content]] for content, _ in answers]
    right = [[item.item_id in own for item in each.items] for each, (_, own) in zip(chosen, answers, strict=True)]
    names = chosen[0].further if chosen else {}
    further = {name: [own.further[name] for own in chosen] for name in names}
    overall = replace(fit_fusion(*rows, right, further=further, alone=alone), num_items=len(view.items))
    groups = [tuple(sorted(own)) for _, own in answers]  # the sentences of one image have the same relevant item
    contents = [content for content, _ in answers]
    return Fitted(overall, cross_fit(*rows, right, contents=contents, groups=groups, further=further, alone=alone))


def rank_all(
    key: SplitKey, shortlists: Sequence[Shortlist], scores: Sequence[Sequence[float]], fitted: Fitted
) -> dict[str, Ranking]:
    """Return query -> (item id, fused score), best first."""
    return {
        shortlist.query: [
            (item.item_id, fused) for item, fused, _ in rank(shortlist, own, fitted.of(key.split, shortlist.query))
        ]
        for shortlist, own in zip(shortlists, scores, strict=True)
    }
