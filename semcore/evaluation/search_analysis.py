"""Analysis of the generator's search on the measured split: retention, exhaustive search, lost items and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from semcore.evaluation.corrected_hits import PriorCorrection
from semcore.evaluation.cost import measure_cost
from semcore.evaluation.exhaustive_check import compare_searches, num_queries_for, search_exhaustively
from semcore.evaluation.false_negatives import Exact, score_lost_items
from semcore.evaluation.guided_search import Guiding
from semcore.evaluation.plan import EvaluationPlan
from semcore.evaluation.retention import follow_queries, summarise_retention
from semcore.models.session import ModelSession
from semcore.retrieval.batch import SplitKey, SplitView, WorkDir
from semcore.retrieval.corpus import build_corpus
from semcore.retrieval.hits import GeneratedHit
from semcore.runtime.long_lists import listed

MOST_LOST = 500
"""Queries whose lost items are scored for the audit; the audit leaves the others out."""


@dataclass(frozen=True)
class SearchAnalysis:
    """What the analysis of one direction's search has found.

    Attributes:
        sections: heading of metrics.json -> figures; empty ones are left out.
        exact: the exact scores of the relevant items that the search lost.
    """

    sections: dict[str, Any] = field(default_factory=dict)
    exact: Exact = field(default_factory=dict)


def analyse_search(
    plan: EvaluationPlan,
    session: ModelSession,
    key: SplitKey,
    view: SplitView,
    hits: Mapping[str, Sequence[GeneratedHit]],
    correction: PriorCorrection,
    guiding: Guiding,
    work_dir: WorkDir,
) -> SearchAnalysis:
    """Analyse the search of one direction; without the prefix tree there is nothing to follow.

    An exhaustive search has no guide, so that a guided one is not compared with it.

    Args:
        plan: says how many queries.
        session: the generator.
        key: the view's key.
        view: items and queries.
        hits: query -> what the search found, as later stages use it.
        correction: the share of the prior that is off it.
        guiding: what guided it.
        work_dir: where results are kept from a kill.
    """
    made = guiding.of(key.direction)
    num_exhaustive = num_queries_for(plan.num_exhaustive_queries, view) if made is None else 0
    scores_lost = bool(plan.verifiers) and made is None
    if not plan.constraint or not (plan.num_retention_queries or num_exhaustive or plan.cost or scores_lost):
        return SearchAnalysis()
    corpus = build_corpus(session, key.direction, listed(view.items.values()))
    guide = None if made is None else made(corpus)
    weight = correction.weight(key.direction).overall
    priors = correction.priors.get(key.direction)
    log_priors = {} if priors is None else priors.totals()
    sections: dict[str, Any] = {}
    if plan.num_retention_queries:
        in_search = priors.correction(corpus, weight) if priors is not None and plan.prior_in_search else None
        courses = follow_queries(
            session, key, view, corpus, work_dir,
            num_queries=plan.num_retention_queries, num_beams=plan.num_beams, batch_size=plan.batch_size,
            correction=in_search, guide=guide,
        )  # fmt: skip
        sections["prefix_retention"] = summarise_retention(courses, plan.num_beams)
    if num_exhaustive:
        exhaustive = search_exhaustively(
            session, key, view, corpus, work_dir, num_queries=num_exhaustive, log_priors=log_priors, weight=weight
        )
        sections["exhaustive"] = compare_searches(view, exhaustive, hits, plan.num_beams)
    if plan.cost:
        sections["cost"] = measure_cost(
            session, key, view, work_dir, num_beams=plan.num_beams, batch_size=plan.batch_size
        )  # fmt: skip
    exact = {}
    if scores_lost:
        exact = score_lost_items(
            session, key, view, hits, work_dir, num_queries=MOST_LOST, log_priors=log_priors, weight=weight
        )
    return SearchAnalysis({name: figures for name, figures in sections.items() if figures}, exact)
