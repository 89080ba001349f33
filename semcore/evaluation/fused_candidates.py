"""Candidates of an evaluation: the generator's shortlists, or those fused with the nearest of dense vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.evaluation.corrected_hits import Hits, PriorCorrection
from semcore.evaluation.fitted_fusions import Fitted, fit, rank_all
from semcore.evaluation.guided_search import Guiding
from semcore.evaluation.plan import EvaluationPlan
from semcore.evaluation.results import score
from semcore.models.session import ModelSession
from semcore.retrieval.batch import QUERIES_PER_CHUNK, SplitKey, SplitView, WorkDir, make_shortlists
from semcore.retrieval.candidates import Candidate, DenseSide, Search, cut, find_candidates, shortlist_of
from semcore.retrieval.corpus import build_corpus
from semcore.retrieval.dense import FOLDER, DenseEncoder, encoder_key, item_vectors, open_dense
from semcore.retrieval.shortlist import Shortlist
from semcore.verification import Fusion

Shortlists = dict[SplitKey, list[Shortlist]]


@dataclass(frozen=True)
class Candidates:
    """What is verified.

    Attributes:
        shortlists: of every view, in the order of its unique queries.
        fusions: direction -> the fusion that chose among the candidates; none where the generator did alone.
        figures: direction -> the scores of the fused order, and which side found the relevant items, in percent.
    """

    shortlists: Shortlists
    fusions: dict[str, Fusion] = field(default_factory=dict)
    figures: dict[Direction, dict[str, Any]] = field(default_factory=dict)


def choose_candidates(
    plan: EvaluationPlan,
    run: RunFolder,
    dataset: Dataset,
    session: ModelSession,
    views: Mapping[SplitKey, SplitView],
    hits: Mapping[SplitKey, Hits],
    correction: PriorCorrection,
    guiding: Guiding,
    work_dir: WorkDir,
) -> Candidates:
    """Return the shortlist of every query.

    Args:
        plan: says where candidates come from, and how many are verified.
        run: holds captions, and keeps vectors.
        dataset: holds the images.
        session: the generator.
        views: items and queries, of val too, where the fusion is fitted.
        hits: what the generator found in every view.
        correction: of the hits' scores.
        guiding: of the search.
        work_dir: where results are kept from a kill.
    """
    if plan.candidates.source == "generated":
        return Candidates({key: make_shortlists(view, hits[key], plan.num_candidates) for key, view in views.items()})
    encoder = open_dense(plan.candidates.model, run, dataset, plan.device)
    found = {
        key: _find(plan, run, session, encoder, key, view, hits[key], correction, guiding, work_dir)
        for key, view in views.items()
    }
    whole = {key: _whole(view, found[key]) for key, view in views.items()}
    fitted = {key.direction: fit(views[key], whole[key], _zeros(whole[key])) for key in views if key.split == "val"}
    unfitted = Fitted(Fusion(further=dict.fromkeys(("dense", "guide"), 0.5)))
    shortlists, figures = {}, {}
    for key, view in views.items():
        own = fitted.get(key.direction, unfitted)
        shortlists[key] = [cut(each, own.of(key.split, each.query), plan.num_candidates) for each in whole[key]]
        if key.split == plan.split:
            fused = score(view, rank_all(key, whole[key], _zeros(whole[key]), own))
            figures[key.direction] = {"fused": fused, "found_by": found_by(view, found[key])}
    return Candidates(shortlists, {str(direction): own.overall for direction, own in fitted.items()}, figures)


def found_by(view: SplitView, candidates: Sequence[Sequence[Candidate]]) -> dict[str, float]:
    """Return which side found a relevant item, in percent of all queries: "both", only one of them, or "neither".

    Args:
        view: items and queries.
        candidates: of each of its unique queries.
    """
    own = dict(zip(view.unique_queries, candidates, strict=True))
    counts = dict.fromkeys(("both", "generator_only", "dense_only", "neither"), 0)
    for query, right in view.queries.relevant.items():
        known = [each for each in own.get(view.queries.contents.get(query, ""), ()) if each.item_id in right]
        generated, dense = any(each.generated for each in known), any(each.dense for each in known)
        name = {(True, True): "both", (True, False): "generator_only", (False, True): "dense_only"}
        counts[name.get((generated, dense), "neither")] += 1
    return {name: 100 * count / len(view.queries.relevant) for name, count in counts.items()}


def _find(
    plan: EvaluationPlan,
    run: RunFolder,
    session: ModelSession,
    encoder: DenseEncoder,
    key: SplitKey,
    view: SplitView,
    hits: Hits,
    correction: PriorCorrection,
    guiding: Guiding,
    work_dir: WorkDir,
) -> list[list[Candidate]]:
    """Return the candidates of a view's unique queries, in chunks that outlive a kill."""
    items, direction = list(view.items.values()), key.direction
    corpus = build_corpus(session, direction, items)
    made = guiding.of(direction)
    guide = None if made is None else made(corpus)
    vectors = item_vectors(
        encoder, encoder_key(plan.candidates.model, run), direction, items, run / FOLDER, progress=work_dir.progress
    )
    side = DenseSide(encoder, [item.item_id for item in items], vectors, corpus.index.item_sequences())
    priors = correction.priors[direction].totals() if direction in correction.priors else {}
    search = Search(session, direction, corpus, guide, priors, plan.batch_size)
    weight = correction.weight(direction)

    def work(queries: list[str]) -> list[Any]:
        shares = {query: weight.of(key.split, query) for query in queries}
        return find_candidates(search, side, plan.candidates, {query: hits[query] for query in queries}, shares)

    rows = work_dir.run(f"candidates {direction} {key.split}", view.unique_queries, QUERIES_PER_CHUNK, work, "query")
    return [[Candidate(*own) for own in row] for row in rows]


def _whole(view: SplitView, candidates: Sequence[Sequence[Candidate]]) -> list[Shortlist]:
    """Return all candidates of each unique query as a shortlist."""
    queries = zip(view.unique_queries, candidates, strict=True)
    return [shortlist_of(content, own, view.items) for content, own in queries]


def _zeros(shortlists: Sequence[Shortlist]) -> list[list[float]]:
    return [[0.0] * len(own.items) for own in shortlists]
