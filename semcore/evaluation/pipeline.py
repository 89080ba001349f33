"""The course of an evaluation: generate, verify, fit fusions, score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.evaluation.confidence import Verified, measure_confidence
from semcore.evaluation.false_negatives import audit
from semcore.evaluation.fitted_fusions import Fitted, fit, rank_all
from semcore.evaluation.folds import mean_metrics
from semcore.evaluation.generation import Generated, search_views
from semcore.evaluation.no_match_detection import find_rule, measure_no_match
from semcore.evaluation.order_probes import draw_order_probes, measure_order_bias
from semcore.evaluation.plan import EvaluationPlan
from semcore.evaluation.results import EvaluationResult, Scores, score
from semcore.evaluation.val_corpus import num_items_by_split
from semcore.models.checkpoint import Checkpoint
from semcore.models.inference import load_for_inference
from semcore.models.session import load_session
from semcore.models.verifier_registry import VERIFIERS, VerifierName
from semcore.retrieval.batch import (
    SplitKey,
    SplitView,
    WorkDir,
    verify_pairs,
    verify_questions,
)
from semcore.retrieval.search_settings import SearchSettings
from semcore.retrieval.shortlist import Shortlist
from semcore.retrieval.verifiers import open_verifier
from semcore.verification import Fusion, VerifierSession, load_verifier
from semcore.verification.score_fusion import FusionSettings

Fits = dict[Direction, Fitted]
CandidateScores = Sequence[Sequence[float]]
"""A score of every candidate of every shortlist."""


def run_evaluation(
    plan: EvaluationPlan,
    run: RunFolder,
    dataset: Dataset,
    models: Mapping[str, str],
    views: Mapping[SplitKey, SplitView],
    work_dir: WorkDir,
) -> EvaluationResult:
    """Generate, verify and score; one model is in memory at a time.

    Args:
        plan: settings of the evaluation.
        run: keeps the priors of identifiers.
        dataset: holds the images.
        models: "generator", the verifiers asked for, and "untrained" to compare the listwise one with.
        views: items and queries, of val too where fusions are fitted.
        work_dir: where results are kept from a kill.
    """
    session = load_session(_load(models["generator"], plan), dataset, work_dir.features)
    generated = search_views(plan, run, dataset, session, views, work_dir)
    hits = generated.hits
    del session  # one model is in memory at a time
    shortlists = generated.candidates.shortlists
    measured = [key for key in views if key.split == plan.split]
    differs = plan.prior_weight != 0 or plan.guide.kind != "none"
    result = EvaluationResult(
        split=plan.split,
        num_beams=plan.num_beams,
        constraint=plan.constraint,
        fusion=plan.fusion,
        seconds=work_dir.seconds,
        views={key.direction: views[key] for key in measured},
        hits={key.direction: hits[key] for key in measured},
        paper_hits={key.direction: generated.paper_hits[key] for key in measured} if differs else {},
        prior_settings=generated.prior_settings,
        ablations=generated.ablations,
        search=SearchSettings(generated.guiding.settings, plan.candidates, generated.candidates.fusions),
        candidates=generated.candidates.figures,
        guide_on_val=generated.guiding.tried,
        val_corpus=num_items_by_split(dataset, views),
    )
    result.folds["generated"] = mean_over_folds(plan.split, views, hits)
    verified: dict[str, Verified] = {}
    for name in plan.verifiers:
        scores = _verify(name, plan, dataset, models[name], shortlists, result, work_dir)
        fits = _rank(name, plan, views, shortlists, scores, result)
        verified[name] = Verified(views, shortlists, scores, fits)
    without = {key: [[0.0] * len(each.items) for each in own] for key, own in shortlists.items()}
    verified["none"] = Verified(views, shortlists, without, _fit(views, shortlists, without))
    fusions = {name: _with_rules(own, plan.no_match_refused) for name, own in verified.items()}
    better = better_on_val(plan.verifiers, result.on_val)
    weights = dict(generated.prior_settings.weights)
    shifts = {str(direction): plan.shifts[direction] for direction in result.views}
    result.fusion_settings = FusionSettings(better, fusions, shifts, dict(plan.other_models), weights)
    _analyse(plan, dataset, verified[better], generated, result)
    if "untrained" in models:
        session = load_verifier(_load(models["untrained"], plan), dataset, work_dir.features)
        _add_order_bias("untrained", plan, session, result, work_dir)
    return result


def _with_rules(verified: Verified, refused: float) -> dict[str, Fusion]:
    """Return direction -> a verifier's fusion, with its rule of "no match"."""
    return {
        str(direction): replace(fitted.overall, no_match=find_rule(verified, direction, refused))
        for direction, fitted in verified.fits.items()
    }


def _analyse(
    plan: EvaluationPlan, dataset: Dataset, verified: Verified, generated: Generated, result: EvaluationResult
) -> None:
    """Add the analyses of the search, of the confidence and of the false negatives to the result."""
    for direction in result.views:
        key, exact = SplitKey(plan.split, direction), generated.analyses[direction].exact
        fusion = result.fusion_settings.fusions[result.verifier].get(direction, Fusion())
        sections = dict(generated.analyses[direction].sections)
        sections["calibration"] = measure_confidence(verified, plan.split, direction)
        sections["no_match"] = measure_no_match(verified, plan.split, direction, fusion.no_match, plan.no_match_refused)
        if plan.verifiers:
            found = audit(
                direction, result.views[direction], verified.shortlists[key], verified.scores[key],
                verified.confidences(key), exact, dataset, result.hits[direction],
            )  # fmt: skip
            result.false_negatives[direction] = found.pop("listed")
            sections["false_negatives"] = found
        for name, figures in sections.items():
            if figures:
                result.analyses.setdefault(name, {})[direction] = figures


def _rank(
    name: VerifierName,
    plan: EvaluationPlan,
    views: Mapping[SplitKey, SplitView],
    shortlists: Mapping[SplitKey, Sequence[Shortlist]],
    scores: Mapping[SplitKey, CandidateScores],
    result: EvaluationResult,
) -> Fits:
    """Rank all views by a verifier, fused and alone, into the result; return the fusions that count."""
    fused, alone = _fit(views, shortlists, scores), _fit(views, shortlists, scores, alone=True)
    rankings = [
        {key: rank_all(key, shortlists[key], scores[key], fits.get(key.direction, unfitted)) for key in views}
        for fits, unfitted in ((fused, Fitted(Fusion())), (alone, Fitted(Fusion(0.0, 1.0))))
    ]
    result.rankings[name], result.alone[name] = (
        {key.direction: ranked for key, ranked in own.items() if key.split == plan.split} for own in rankings
    )
    counting = rankings[plan.fusion == "none"]
    result.folds[name] = mean_over_folds(plan.split, views, counting)
    result.on_val[name] = {key.direction: score(views[key], counting[key]) for key in views if key.split == "val"}
    return alone if plan.fusion == "none" else fused


def _fit(
    views: Mapping[SplitKey, SplitView],
    shortlists: Mapping[SplitKey, Sequence[Shortlist]],
    scores: Mapping[SplitKey, CandidateScores],
    *,
    alone: bool = False,
) -> Fits:
    """Fit a verifier's fusion on val in each direction."""
    fitted_on = [key for key in views if key.split == "val"]
    return {key.direction: fit(views[key], shortlists[key], scores[key], alone=alone) for key in fitted_on}


def mean_over_folds(
    split: str, views: Mapping[SplitKey, SplitView], rankings: Mapping[SplitKey, Any]
) -> dict[Direction, Scores]:
    """Return direction -> mean scores over the folds among the views, as `fold_split_views` names them."""
    scores: dict[Direction, list[Scores]] = {}
    for key, view in views.items():
        if key.split.startswith(f"{split} fold "):
            scores.setdefault(key.direction, []).append(score(view, rankings[key]))
    return {direction: mean_metrics(own) for direction, own in scores.items()}


def better_on_val(verifiers: Sequence[VerifierName], on_val: Mapping[VerifierName, Mapping[Direction, Scores]]) -> str:
    """Return the verifier with the greatest sum of R@1 over the directions of val; the first of equals."""
    if not verifiers:
        return "none"
    return max(verifiers, key=lambda name: sum(scores["R@1"] for scores in on_val[name].values()))


def _load(model: str, plan: EvaluationPlan) -> Checkpoint:
    return load_for_inference(model, dtype=plan.dtype, device=plan.device, base=plan.base)


def _verify(
    name: VerifierName,
    plan: EvaluationPlan,
    dataset: Dataset,
    model: str,
    shortlists: Mapping[SplitKey, Sequence[Shortlist]],
    result: EvaluationResult,
    work_dir: WorkDir,
) -> dict[SplitKey, list[list[float]]]:
    """Return a verifier's scores; for a listwise verifier, measure its order bias too."""
    session = open_verifier(
        name, model, dataset, work_dir.features, dtype=plan.dtype, device=plan.device, base=plan.base
    )
    if VERIFIERS[name].scores == "pairs":
        return verify_pairs(name, session, shortlists, work_dir)
    scores = {
        key: verify_questions(name, session, key, own, work_dir, plan.shifts[key.direction])
        for key, own in shortlists.items()
    }
    if VERIFIERS[name].ordered:
        _add_order_bias("trained" if name == "listwise" else f"trained, {name}", plan, session, result, work_dir)
    return scores


def _add_order_bias(
    name: str, plan: EvaluationPlan, session: VerifierSession, result: EvaluationResult, work_dir: WorkDir
) -> None:
    """Measure order bias with one shift, the chosen number, and all shifts, on a few queries per direction."""
    for direction, view in result.views.items():
        count = plan.num_candidates
        probes = draw_order_probes(view, result.hits[direction], count, plan.num_order_queries)
        if probes:
            key = SplitKey(plan.split, direction)
            measured = measure_order_bias(name, session, key, probes, work_dir, (1, plan.shifts[direction], count))
            result.order_bias.setdefault(direction, []).append(measured)
