"""The generator's part of an evaluation: every view is searched, the prior comes off, and ablations are measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import draw_queries
from semcore.data.run_folder import RunFolder
from semcore.evaluation.ablations import without_verification
from semcore.evaluation.corrected_hits import (
    Hits,
    PriorCorrection,
    find_correction,
    prior_settings,
    search_again,
)
from semcore.evaluation.fused_candidates import Candidates, choose_candidates
from semcore.evaluation.guided_search import Guiding, find_guide
from semcore.evaluation.plan import EvaluationPlan
from semcore.evaluation.results import Scores, score
from semcore.evaluation.search_analysis import SearchAnalysis, analyse_search
from semcore.models.session import ModelSession
from semcore.retrieval.batch import SplitKey, SplitView, WorkDir, generate_hits, generate_unconstrained
from semcore.retrieval.hits import merged
from semcore.retrieval.prior_settings import PriorSettings


@dataclass(frozen=True)
class Generated:
    """What the generator finds, view by view.

    Attributes:
        hits: the rankings that later stages use.
        paper_hits: those by the paper's score.
        prior_settings: what comes off the paper's score.
        candidates: what is verified.
        guiding: what guided the search.
        ablations: name -> direction -> scores.
        analyses: direction -> the analysis of the measured split's search.
    """

    hits: dict[SplitKey, Hits]
    paper_hits: dict[SplitKey, Hits]
    prior_settings: PriorSettings
    candidates: Candidates
    guiding: Guiding
    ablations: dict[str, dict[Direction, Scores]]
    analyses: dict[Direction, SearchAnalysis]


def search_views(
    plan: EvaluationPlan,
    run: RunFolder,
    dataset: Dataset,
    session: ModelSession,
    views: Mapping[SplitKey, SplitView],
    work_dir: WorkDir,
) -> Generated:
    """Search every view, take the prior off, and measure the ablations and analyses of the measured views.

    Args:
        plan: settings of the evaluation.
        run: keeps the priors of identifiers.
        dataset: holds the training queries.
        session: the generator.
        views: items and queries.
        work_dir: where results are kept from a kill.
    """
    guiding = find_guide(plan, run, dataset, session, views, work_dir)
    found = {key: _search(plan, session, key, view, work_dir, guiding) for key, view in views.items()}
    correction = find_correction(plan, run, dataset, session, views, found, work_dir)
    hits = {key: correction.rescored(key, found[key], plan.num_beams) for key in views}
    if plan.prior_in_search and correction.priors:
        hits = {
            key: search_again(plan, session, key, view, correction, work_dir, guiding.of(key.direction))
            for key, view in views.items()
        }
    unguided = found
    if guiding.maker is not None:
        unguided = {
            key: _search(plan, session, key, view, work_dir) for key, view in views.items() if key.split == plan.split
        }
    paper_hits = {
        key: {content: merged(own)[: plan.num_beams] for content, own in rankings.items()}
        for key, rankings in unguided.items()
    }
    candidates = choose_candidates(plan, run, dataset, session, views, hits, correction, guiding, work_dir)
    ablations: dict[str, dict[Direction, Scores]] = {}
    for key, view in views.items():
        if plan.ablations and key.split == plan.split:
            for name, scores in _ablate(plan, session, key, view, hits[key], correction, work_dir).items():
                ablations.setdefault(name, {})[key.direction] = scores
    analyses = {
        key.direction: analyse_search(plan, session, key, view, hits[key], correction, guiding, work_dir)
        for key, view in views.items()
        if key.split == plan.split
    }
    return Generated(hits, paper_hits, prior_settings(plan, correction), candidates, guiding, ablations, analyses)


def _search(
    plan: EvaluationPlan,
    session: ModelSession,
    key: SplitKey,
    view: SplitView,
    work_dir: WorkDir,
    guiding: Guiding | None = None,
) -> Hits:
    """Return what the beams hold, by the paper's score and what a guide adds to it."""
    guide = None if guiding is None else guiding.of(key.direction)
    num_beams, batch_size = plan.num_beams, plan.batch_size
    if not plan.constraint:
        return generate_unconstrained(session, key, view, work_dir, num_beams=num_beams, batch_size=batch_size)
    return generate_hits(
        session, key, view, work_dir,
        num_beams=num_beams, batch_size=batch_size, engine=plan.engine, whole_beam=plan.prior_weight != 0, guide=guide,
        name="" if guide is None else f"generate guided {key.direction} {key.split}",
    )  # fmt: skip


def _ablate(
    plan: EvaluationPlan,
    session: ModelSession,
    key: SplitKey,
    view: SplitView,
    hits: Hits,
    correction: PriorCorrection,
    work_dir: WorkDir,
) -> dict[str, Scores]:
    """Return name -> scores of what remains without verification, and without the prefix tree."""
    suffixed = {content: without_verification(own) for content, own in hits.items()}
    ablations = {"without_verification": score(view, suffixed)}
    drawn = SplitView(view.items, draw_queries(view.queries, plan.num_ablation_queries))
    if plan.constraint and drawn.unique_queries:
        sizes = {"num_beams": plan.num_beams, "batch_size": plan.batch_size}
        freely = generate_unconstrained(session, key, drawn, work_dir, **sizes)
        ablations["with_trie"] = score(drawn, hits)
        ablations["without_trie"] = score(drawn, correction.rescored(key, freely, plan.num_beams))
    return ablations
