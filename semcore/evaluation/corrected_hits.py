"""The generator's rankings with the identifiers' prior taken off, beside those by the paper's score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.evaluation.plan import EvaluationPlan
from semcore.evaluation.prior_weights import PriorWeight, fit_prior_weight
from semcore.models.session import ModelSession
from semcore.retrieval.batch import SplitKey, SplitView, WorkDir, generate_hits
from semcore.retrieval.corpus import Corpus
from semcore.retrieval.generator import GuideOf
from semcore.retrieval.hits import GeneratedHit, merged, without_prior
from semcore.retrieval.prior_settings import PriorSettings
from semcore.retrieval.priors import IDENTIFIERS_PER_CHUNK, Priors, PriorSample
from semcore.runtime.ranks import is_main_process

Hits = dict[str, list[GeneratedHit]]
"""What is asked -> its ranking."""


@dataclass(frozen=True)
class PriorCorrection:
    """The priors of all items, and how much of them comes off.

    Attributes:
        priors: direction -> the priors; none where nothing comes off.
        weights: direction -> the weight, where there is one.
    """

    priors: Mapping[Direction, Priors]
    weights: Mapping[Direction, PriorWeight]

    def weight(self, direction: Direction) -> PriorWeight:
        """Return a direction's weight; 0 where nothing was fitted."""
        return self.weights.get(direction, PriorWeight(0.0))

    def rescored(self, key: SplitKey, hits: Mapping[str, Sequence[GeneratedHit]], num_beams: int) -> Hits:
        """Return rankings by the corrected score, as many hits as beams at most."""
        if key.direction not in self.priors:
            return {content: merged(own)[:num_beams] for content, own in hits.items()}
        totals, weight = self.priors[key.direction].totals(), self.weight(key.direction)
        return {
            content: without_prior(own, totals, weight.of(key.split, content), num_beams)
            for content, own in hits.items()
        }


def find_correction(
    plan: EvaluationPlan,
    run: RunFolder,
    dataset: Dataset,
    session: ModelSession,
    views: Mapping[SplitKey, SplitView],
    hits: Mapping[SplitKey, Mapping[str, Sequence[GeneratedHit]]],
    work_dir: WorkDir,
) -> PriorCorrection:
    """Estimate the priors of what the views hold, and fit their weights on val or take the one that was asked for.

    Args:
        plan: says what is wanted.
        run: keeps the priors.
        dataset: holds the training queries.
        session: the generator.
        views: what is searched and asked.
        hits: by the paper's score, of every view.
        work_dir: where results are kept from a kill.
    """
    if plan.prior_weight == 0:
        return PriorCorrection({}, {})
    priors = {
        direction: _estimate(plan, run, dataset, session, direction, views, work_dir)
        for direction in sorted({key.direction for key in views})
    }
    if plan.prior_weight != "fit":
        return PriorCorrection(priors, dict.fromkeys(priors, PriorWeight(float(plan.prior_weight))))
    weights = {
        key.direction: fit_prior_weight(view, hits[key], priors[key.direction].totals())
        for key, view in views.items()
        if key.split == "val"
    }
    return PriorCorrection(priors, weights)


def prior_settings(plan: EvaluationPlan, correction: PriorCorrection) -> PriorSettings:
    """Return what later searches need to know of a correction."""
    return PriorSettings(
        weights={str(direction): weight.overall for direction, weight in correction.weights.items()},
        choice=plan.prior_weight,
        num_queries=plan.num_prior_queries,
        seed=plan.prior_seed,
        in_search=plan.prior_in_search,
    )


def search_again(
    plan: EvaluationPlan,
    session: ModelSession,
    key: SplitKey,
    view: SplitView,
    correction: PriorCorrection,
    work_dir: WorkDir,
    guide: Callable[[Corpus], GuideOf] | None = None,
) -> Hits:
    """Search with the prior off in the beam search; queries with another weight are searched by themselves."""
    asked: dict[float, list[str]] = {}
    for content in view.unique_queries:
        asked.setdefault(correction.weight(key.direction).of(key.split, content), []).append(content)
    found: Hits = {}
    for number, (weight, queries) in enumerate(asked.items()):
        found |= generate_hits(
            session, key, view, work_dir,
            num_beams=plan.num_beams, batch_size=plan.batch_size, engine=plan.engine, queries=queries,
            correct=partial(correction.priors[key.direction].correction, weight=weight), guide=guide,
            name=f"generate corrected {key.direction} {key.split} {number}",
        )  # fmt: skip
    return found


def _estimate(
    plan: EvaluationPlan,
    run: RunFolder,
    dataset: Dataset,
    session: ModelSession,
    direction: Direction,
    views: Mapping[SplitKey, SplitView],
    work_dir: WorkDir,
) -> Priors:
    priors = Priors.open(session, direction, PriorSample(plan.num_prior_queries, plan.prior_seed), run, dataset)
    own = [item for key, view in views.items() if key.direction == direction for item in view.items.values()]
    wanted = sorted({text for item in own for text in item.identifiers})
    rows = work_dir.run(f"prior {direction}", wanted, IDENTIFIERS_PER_CHUNK, priors.of, "identifier")
    priors.values.update(zip(wanted, rows, strict=True))
    if is_main_process():
        priors.save()
    return priors
