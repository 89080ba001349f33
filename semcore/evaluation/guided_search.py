"""Guided search of an evaluation: the guide of each view, and its weight, found on val."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.evaluation.plan import EvaluationPlan
from semcore.evaluation.results import Scores, score
from semcore.models.session import ModelSession
from semcore.retrieval.batch import SplitKey, SplitView, WorkDir, generate_hits
from semcore.retrieval.corpus import Corpus
from semcore.retrieval.dense import open_dense
from semcore.retrieval.generator import GuideOf
from semcore.retrieval.guides import WEIGHTS, GuideSettings
from semcore.retrieval.open_guide import GuideMaker
from semcore.runtime.errors import UserError


@dataclass(frozen=True)
class Guiding:
    """What guides the searches of an evaluation.

    Attributes:
        maker: makes the guide of a corpus; None where nothing guides.
        settings: with the weights that count.
        tried: direction -> weight -> its scores on val, where the weight was fitted.
    """

    maker: GuideMaker | None
    settings: GuideSettings
    tried: Mapping[Direction, Mapping[str, Scores]]

    def of(self, direction: Direction, weight: float | None = None) -> Callable[[Corpus], GuideOf] | None:
        """Return what makes the guide of a corpus, None where nothing guides or the weight is 0.

        Args:
            direction: of the search.
            weight: another one than that which counts.
        """
        maker, chosen = self.maker, self.settings.weight(direction) if weight is None else weight
        if maker is None or chosen == 0:
            return None

        def of_corpus(corpus: Corpus) -> GuideOf:
            guide = maker.make(direction, corpus)
            return lambda queries: guide.bonus(queries, chosen)

        return of_corpus


def find_guide(
    plan: EvaluationPlan,
    run: RunFolder,
    dataset: Dataset,
    session: ModelSession,
    views: Mapping[SplitKey, SplitView],
    work_dir: WorkDir,
) -> Guiding:
    """Return the guide that the plan asks for, its weight fitted on val or as it was given.

    Args:
        plan: says what is wanted.
        run: holds what the guide reads.
        dataset: holds the images.
        session: the generator.
        views: items and queries, of val too where a weight is fitted.
        work_dir: where results are kept from a kill.

    Raises:
        UserError: the weight is to be fitted, and val has nothing to fit on.
    """
    if plan.guide.kind == "none":
        return Guiding(None, plan.guide, {})
    maker = GuideMaker(
        plan.guide, run, session, lambda: open_dense(plan.guide.model, run, dataset, plan.device), work_dir.progress, {}
    )
    guiding = Guiding(maker, plan.guide, {})
    directions = sorted({key.direction for key in views})
    if plan.guide_weight != "fit":
        weights = {str(direction): float(plan.guide_weight) for direction in directions}
        return replace(guiding, settings=replace(plan.guide, weights=weights))
    tried = {}
    for direction in directions:
        key = SplitKey("val", direction)
        if key not in views:
            raise UserError(
                f"the guide's weight is fitted on val, and val of {dataset.folder} has no query {direction.words}: "
                "give --guide.weight NUMBER"
            )
        tried[direction] = _try_weights(plan, session, key, views[key], guiding, work_dir)
    weights = {str(direction): float(best_weight(own)) for direction, own in tried.items()}
    return Guiding(maker, replace(plan.guide, weights=weights), tried)


def best_weight(tried: Mapping[str, Scores]) -> str:
    """Return the weight of the greatest R@1, then R@5; of equal ones the first.

    >>> best_weight({"0": {"R@1": 10, "R@5": 20}, "1": {"R@1": 10, "R@5": 30}, "2": {"R@1": 10, "R@5": 30}})
    '1'
    """
    return max(tried, key=lambda weight: (tried[weight]["R@1"], tried[weight]["R@5"]))


def _try_weights(
    plan: EvaluationPlan, session: ModelSession, key: SplitKey, view: SplitView, guiding: Guiding, work_dir: WorkDir
) -> dict[str, Scores]:
    """Return weight -> scores of a search of val with it."""
    tried = {}
    for weight in WEIGHTS:
        hits = generate_hits(
            session, key, view, work_dir,
            num_beams=plan.num_beams, batch_size=plan.batch_size, engine=plan.engine,
            guide=guiding.of(key.direction, weight), name=f"guide {weight:g} {key.direction} {key.split}",
        )  # fmt: skip
        tried[f"{weight:g}"] = score(view, hits)
    return tried
