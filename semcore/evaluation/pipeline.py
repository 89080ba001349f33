"""From the parts of an evaluation to its scores and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from semcore.data.dataset import Dataset
from semcore.data.run_folder import RunFolder
from semcore.evaluation.fitted_fusions import Fitted, Ranking, fit, rank_all
from semcore.evaluation.folds import mean_metrics
from semcore.evaluation.metrics import retrieval_metrics
from semcore.evaluation.order_probes import draw_order_probes, measure_order_bias
from semcore.evaluation.per_query import GeneratedHit, write_per_query
from semcore.evaluation.trec import write_qrels, write_run
from semcore.models.inference import load_for_inference
from semcore.models.lineage import Mismatch, as_record
from semcore.retrieval.ablations import without_verification
from semcore.retrieval.batch import (
    ModelSession,
    SplitKey,
    SplitView,
    WorkDir,
    draw_queries,
    generate_hits,
    generate_unconstrained,
    load_session,
    make_shortlists,
    verify_by_likelihood,
    verify_by_options,
)
from semcore.retrieval.shortlist import Shortlist, VerifierName
from semcore.runtime.files import write_json
from semcore.verification import Fusion
from semcore.verification.score_fusion import FUSION_FILE, FusionSettings, write_fusion_settings

if TYPE_CHECKING:
    from semcore.commands.evaluate import EvaluateSettings

ORDERED: dict[str, str] = {"listwise": "trained", "blocks": "trained, blocks"}
"""Verifiers that an order can sway -> what their models are called beside the untrained one."""

Scores = dict[str, float]


@dataclass
class EvaluationResult:
    """What was found, and how good it is.

    Attributes:
        split: that is measured.
        num_beams: width of the beam.
        constraint: whether only identifiers that exist could be written.
        seconds: of each step.
        hits: direction -> what was asked -> the generator's ranking.
        rankings: verifier -> direction -> what was asked -> its ranking, fused with the generator's.
        alone: likewise, by the verifier's score alone.
        fusion: "val" where the fused ranking counts, "none" where the verifier's own does.
        views: direction -> items and queries of the measured split.
        on_val: verifier -> direction -> scores on val, of the ranking that counts; no query is ranked with weights
            that were fitted on it.
        ablations: name -> direction -> scores.
        order_bias: direction -> what the order of the candidates does to the listwise verifier, model by model.
        fusion_settings: how the verifiers are weighed, for later searches.
        mismatches: what differs from what the models were made with, and was allowed.
        folds: "generated" or verifier -> direction -> mean scores over folds of the measured split.
        baselines: name -> direction -> scores of dense retrieval.
    """

    split: str
    num_beams: int
    seconds: dict[str, float]
    views: dict[str, SplitView]
    hits: dict[str, dict[str, list[GeneratedHit]]]
    constraint: bool = True
    fusion: str = "val"
    rankings: dict[VerifierName, dict[str, dict[str, Ranking]]] = field(default_factory=dict)
    alone: dict[VerifierName, dict[str, dict[str, Ranking]]] = field(default_factory=dict)
    on_val: dict[VerifierName, dict[str, Scores]] = field(default_factory=dict)
    ablations: dict[str, dict[str, Scores]] = field(default_factory=dict)
    folds: dict[str, dict[str, Scores]] = field(default_factory=dict)
    baselines: dict[str, dict[str, Scores]] = field(default_factory=dict)
    order_bias: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    fusion_settings: FusionSettings = field(default_factory=lambda: FusionSettings("none", {}))
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def verifier(self) -> str:
        """Return the verifier that counts, "none" without any."""
        return self.fusion_settings.verifier

    @property
    def counting(self) -> dict[VerifierName, dict[str, dict[str, Ranking]]]:
        """Return the rankings that count: fused, or the verifiers' own."""
        return self.rankings if self.fusion == "val" else self.alone


def run_evaluation(
    settings: EvaluateSettings,
    dataset: Dataset,
    models: Mapping[str, str],
    views: Mapping[SplitKey, SplitView],
    work_dir: WorkDir,
) -> EvaluationResult:
    """Generate, verify and score; one model is in memory at a time.

    Args:
        settings: as the command was given.
        dataset: holds the images.
        models: "generator", the verifiers asked for, and "untrained" to compare the listwise one with.
        views: what is searched and asked.
        work_dir: where results are kept from a kill.
    """
    hits, ablations = _generate(settings, dataset, models["generator"], views, work_dir)
    shortlists = {key: make_shortlists(view, hits[key], settings.num_candidates) for key, view in views.items()}
    measured = [key for key in views if key.split == settings.split]
    result = EvaluationResult(
        split=settings.split,
        num_beams=settings.num_beams,
        constraint=settings.constraint,
        fusion=settings.fusion,
        seconds=work_dir.seconds,
        views={key.direction: views[key] for key in measured},
        hits={key.direction: hits[key] for key in measured},
        ablations=ablations,
    )
    result.folds["generated"] = mean_over_folds(settings.split, views, hits)
    fitted = [key for key in views if key.split == "val"]
    weighings: dict[str, dict[str, Fitted]] = {}
    for name in settings.verifiers:
        scores = _verify(name, settings, dataset, models[name], shortlists, result, work_dir)
        both = {}
        for alone in (False, True):
            own = {key.direction: fit(views[key], shortlists[key], scores[key], alone=alone) for key in fitted}
            unfitted = Fitted(Fusion(0.0, 1.0) if alone else Fusion())
            both[alone] = (
                own,
                {key: rank_all(key, shortlists[key], scores[key], own.get(key.direction, unfitted)) for key in views},
            )
        result.rankings[name] = {key.direction: both[False][1][key] for key in measured}
        result.alone[name] = {key.direction: both[True][1][key] for key in measured}
        weighings[name], rankings = both[settings.fusion == "none"]
        result.folds[name] = mean_over_folds(settings.split, views, rankings)
        result.on_val[name] = {key.direction: score(views[key], rankings[key]) for key in fitted}
    without = {key: [[0.0] * len(own.items) for own in shortlists[key]] for key in fitted}
    weighings["none"] = {key.direction: fit(views[key], shortlists[key], without[key]) for key in fitted}
    better = better_on_val(settings.verifiers, result.on_val)
    fusions = {name: {direction: each.overall for direction, each in own.items()} for name, own in weighings.items()}
    result.fusion_settings = FusionSettings(better, fusions, settings.shifts, settings.other_models)
    if "untrained" in models:
        _measure_untrained(settings, dataset, models["untrained"], result, work_dir)
    return result


def score(view: SplitView, rankings: Mapping[str, Sequence[tuple[str, Any]] | Sequence[GeneratedHit]]) -> Scores:
    """Score rankings of what was asked, query by query; the first entry of a hit is its item's id."""
    run = {query: [hit[0] for hit in rankings[content]] for query, content in view.queries.contents.items()}
    return retrieval_metrics(run, view.queries.relevant, len(view.items))


def mean_over_folds(
    split: str, views: Mapping[SplitKey, SplitView], rankings: Mapping[SplitKey, Any]
) -> dict[str, Scores]:
    """Return direction -> mean scores over the folds among the parts, as `fold_parts` names them."""
    scores: dict[str, list[Scores]] = {}
    for key, view in views.items():
        if key.split.startswith(f"{split} fold "):
            scores.setdefault(key.direction, []).append(score(view, rankings[key]))
    return {direction: mean_metrics(own) for direction, own in scores.items()}


def better_on_val(verifiers: Sequence[VerifierName], on_val: Mapping[VerifierName, Mapping[str, Scores]]) -> str:
    """Return the verifier with the greater sum of R@1 over the directions of val; the first of equals."""
    if not verifiers:
        return "none"
    return max(verifiers, key=lambda name: sum(scores["R@1"] for scores in on_val[name].values()))


def write_results(run: RunFolder, result: EvaluationResult, protocol: str, ceiling: Mapping[str, Any]) -> None:
    """Write t2i/, i2t/, verification.json and, last, metrics.json."""
    chosen = result.counting.get(result.verifier, {})  # type: ignore[call-overload]
    for direction, view in result.views.items():
        _write_direction(run, direction, view, result.hits[direction], chosen.get(direction, {}))
    write_fusion_settings(run / FUSION_FILE, result.fusion_settings)
    write_json(run / "metrics.json", metrics_of(result, protocol, ceiling))


def metrics_of(result: EvaluationResult, protocol: str, ceiling: Mapping[str, Any]) -> dict[str, Any]:
    """Return what metrics.json holds."""
    fused, alone = (_score_verifiers(result.views, rankings) for rankings in (result.rankings, result.alone))
    counting = fused if result.fusion == "val" else alone
    metrics: dict[str, Any] = {}
    for direction, view in result.views.items():
        metrics[direction] = {"generated": score(view, result.hits[direction])}
        if result.verifier in counting:
            metrics[direction]["verified"] = counting[result.verifier][direction]
    if result.folds.get("generated"):
        metrics["folds"] = _folds(result)
    if result.baselines:
        metrics["baselines"] = result.baselines
    if ceiling:
        metrics["ceiling"] = dict(ceiling)
    return {
        **metrics,
        "protocol": protocol,
        "split": result.split,
        "num_beams": result.num_beams,
        "constraint": result.constraint,
        "verifier": result.verifier,
        "fusion": result.fusion,
        "fitted_on": "val" if any(result.fusion_settings.fusions.values()) else None,
        "cross_fitted": result.split == "val",
        "verifiers": fused,
        "verifiers_alone": alone,
        "validation": result.on_val,
        "order_bias": result.order_bias,
        "ablations": result.ablations,
        "num_unanswerable": {direction: len(view.queries.unanswerable) for direction, view in result.views.items()},
        "num_shared_sentences": {
            direction: view.queries.num_shared_sentences for direction, view in result.views.items()
        },
        "seconds": {**result.seconds, "all": round(sum(result.seconds.values()), 3)},
        **as_record(result.mismatches),
    }


def _score_verifiers(
    views: Mapping[str, SplitView], rankings: Mapping[VerifierName, Mapping[str, Mapping[str, Ranking]]]
) -> dict[str, dict[str, Scores]]:
    return {
        name: {direction: score(views[direction], ranked) for direction, ranked in own.items()}
        for name, own in rankings.items()
    }


def _folds(result: EvaluationResult) -> dict[str, Any]:
    """Return direction -> "generated" and "verified" -> mean scores."""
    stages = {"generated": result.folds["generated"], "verified": result.folds.get(result.verifier, {})}
    return {
        direction: {stage: own[direction] for stage, own in stages.items() if direction in own}
        for direction in result.folds["generated"]
    }


def _generate(
    settings: EvaluateSettings, dataset: Dataset, model: str, views: Mapping[SplitKey, SplitView], work_dir: WorkDir
) -> tuple[dict[SplitKey, dict[str, list[GeneratedHit]]], dict[str, dict[str, Scores]]]:
    """Return the generator's rankings of all parts, and the ablations of the measured ones."""
    session = _ask(model, settings, dataset, work_dir)
    sizes = {"num_beams": settings.num_beams, "batch_size": settings.batch_size}
    if settings.constraint:
        engine = settings.engine
        hits = {key: generate_hits(session, key, view, work_dir, engine=engine, **sizes) for key, view in views.items()}
    else:
        hits = {key: generate_unconstrained(session, key, view, work_dir, **sizes) for key, view in views.items()}
    ablations: dict[str, dict[str, Scores]] = {}
    if settings.ablations:
        for key, view in views.items():
            if key.split == settings.split:
                suffixed = {content: without_verification(own) for content, own in hits[key].items()}
                ablations.setdefault("without_verification", {})[key.direction] = score(view, suffixed)
                if settings.constraint:
                    drawn = SplitView(view.items, draw_queries(view.queries, settings.num_ablation_queries))
                    if drawn.contents:
                        freely = score(drawn, generate_unconstrained(session, key, drawn, work_dir, **sizes))
                        ablations.setdefault("with_trie", {})[key.direction] = score(drawn, hits[key])
                        ablations.setdefault("without_trie", {})[key.direction] = freely
    return hits, ablations


def _ask(model: str, settings: EvaluateSettings, dataset: Dataset, work_dir: WorkDir) -> ModelSession:
    checkpoint = load_for_inference(model, dtype=settings.dtype, device=settings.device, base=settings.base)
    return load_session(checkpoint, dataset, work_dir.features)


def _verify(
    name: VerifierName,
    settings: EvaluateSettings,
    dataset: Dataset,
    model: str,
    shortlists: Mapping[SplitKey, Sequence[Shortlist]],
    result: EvaluationResult,
    work_dir: WorkDir,
) -> dict[SplitKey, list[list[float]]]:
    """Return a verifier's scores; where an order can sway it, measure that too."""
    session = _ask(model, settings, dataset, work_dir)
    if name == "likelihood":
        return verify_by_likelihood(session, shortlists, work_dir)
    shifts = settings.shifts
    scores = {key: verify_by_options(name, session, key, own, work_dir, shifts) for key, own in shortlists.items()}
    if name in ORDERED:
        _add_order_bias(ORDERED[name], settings, session, result, work_dir)
    return scores


def _measure_untrained(
    settings: EvaluateSettings, dataset: Dataset, model: str, result: EvaluationResult, work_dir: WorkDir
) -> None:
    session = _ask(model, settings, dataset, work_dir)
    _add_order_bias("untrained", settings, session, result, work_dir)


def _add_order_bias(
    name: str, settings: EvaluateSettings, session: ModelSession, result: EvaluationResult, work_dir: WorkDir
) -> None:
    """Measure one question, the shifts that were asked for, and all of them, on a few queries a direction."""
    for direction, view in result.views.items():
        count = settings.num_candidates
        probes = draw_order_probes(view, result.hits[direction], count, settings.num_order_queries)
        if probes:
            key = SplitKey(settings.split, direction)
            measured = measure_order_bias(name, session, key, probes, work_dir, (1, settings.shifts, count))
            result.order_bias.setdefault(direction, []).append(measured)


def _write_direction(
    run: RunFolder,
    direction: str,
    view: SplitView,
    hits: Mapping[str, Sequence[GeneratedHit]],
    verified: Mapping[str, Ranking],
) -> None:
    contents, folder = view.queries.contents, run / direction
    generated = {query: hits[content] for query, content in contents.items()}
    ranked = {query: verified[content] for query, content in contents.items() if content in verified}
    write_run(
        folder / "run.generated.trec", {q: [(hit.item_id, hit.score) for hit in own] for q, own in generated.items()}
    )
    if ranked:
        write_run(folder / "run.verified.trec", ranked)
    write_qrels(folder / "qrels.trec", view.queries.relevant)
    write_per_query(folder / "per_query.jsonl", view.queries.display, view.queries.relevant, generated, ranked)
