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
from semcore.evaluation.order_probes import draw_puzzles, measure_order_bias
from semcore.evaluation.per_query import GeneratedHit, write_per_query
from semcore.evaluation.trec import write_qrels, write_run
from semcore.models.inference import load_for_inference
from semcore.models.lineage import Mismatch, as_record
from semcore.retrieval.ablations import without_verification
from semcore.retrieval.batch import (
    Asked,
    Key,
    Part,
    Workplace,
    ask,
    draw_queries,
    generate_freely,
    generate_hits,
    make_shortlists,
    verify_by_letter,
    verify_by_likelihood,
)
from semcore.retrieval.shortlist import Shortlist, VerifierName
from semcore.runtime.files import write_json
from semcore.verification import Fusion
from semcore.verification.score_fusion import WEIGHTS, Weighing, write_weighing

if TYPE_CHECKING:
    from semcore.commands.evaluate import EvaluateSettings

ORDERED: dict[str, str] = {"listwise": "trained", "blocks": "trained, blocks"}
"""Verifiers that an order can sway -> what their models are called beside the untrained one."""

Scores = dict[str, float]


@dataclass
class Outcome:
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
        parts: direction -> items and queries of the measured split.
        on_val: verifier -> direction -> scores on val, of the ranking that counts; no query is ranked with weights
            that were fitted on it.
        ablations: name -> direction -> scores.
        order_bias: direction -> what the order of the candidates does to the listwise verifier, model by model.
        weighing: how the verifiers are weighed, for later searches.
        mismatches: what differs from what the models were made with, and was allowed.
        folds: "generated" or verifier -> direction -> mean scores over folds of the measured split.
        baselines: name -> direction -> scores of dense retrieval.
    """

    split: str
    num_beams: int
    seconds: dict[str, float]
    parts: dict[str, Part]
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
    weighing: Weighing = field(default_factory=lambda: Weighing("none", {}))
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def verifier(self) -> str:
        """Return the verifier that counts, "none" without any."""
        return self.weighing.verifier

    @property
    def counting(self) -> dict[VerifierName, dict[str, dict[str, Ranking]]]:
        """Return the rankings that count: fused, or the verifiers' own."""
        return self.rankings if self.fusion == "val" else self.alone


def measure(
    settings: EvaluateSettings,
    dataset: Dataset,
    models: Mapping[str, str],
    parts: Mapping[Key, Part],
    place: Workplace,
) -> Outcome:
    """Generate, verify and score; one model is in memory at a time.

    Args:
        settings: as the command was given.
        dataset: holds the images.
        models: "generator", the verifiers asked for, and "untrained" to compare the listwise one with.
        parts: what is searched and asked.
        place: where results are kept from a kill.
    """
    hits, ablations = _generate(settings, dataset, models["generator"], parts, place)
    shortlists = {key: make_shortlists(part, hits[key], settings.num_candidates) for key, part in parts.items()}
    measured = [key for key in parts if key.split == settings.split]
    outcome = Outcome(
        split=settings.split,
        num_beams=settings.num_beams,
        constraint=settings.constraint,
        fusion=settings.fusion,
        seconds=place.seconds,
        parts={key.direction: parts[key] for key in measured},
        hits={key.direction: hits[key] for key in measured},
        ablations=ablations,
    )
    outcome.folds["generated"] = mean_over_folds(settings.split, parts, hits)
    fitted = [key for key in parts if key.split == "val"]
    weighings: dict[str, dict[str, Fitted]] = {}
    for name in settings.verifiers:
        scores = _verify(name, settings, dataset, models[name], shortlists, outcome, place)
        both = {}
        for alone in (False, True):
            own = {key.direction: fit(parts[key], shortlists[key], scores[key], alone=alone) for key in fitted}
            unfitted = Fitted(Fusion(0.0, 1.0) if alone else Fusion())
            both[alone] = (
                own,
                {key: rank_all(key, shortlists[key], scores[key], own.get(key.direction, unfitted)) for key in parts},
            )
        outcome.rankings[name] = {key.direction: both[False][1][key] for key in measured}
        outcome.alone[name] = {key.direction: both[True][1][key] for key in measured}
        weighings[name], rankings = both[settings.fusion == "none"]
        outcome.folds[name] = mean_over_folds(settings.split, parts, rankings)
        outcome.on_val[name] = {key.direction: score(parts[key], rankings[key]) for key in fitted}
    without = {key: [[0.0] * len(own.items) for own in shortlists[key]] for key in fitted}
    weighings["none"] = {key.direction: fit(parts[key], shortlists[key], without[key]) for key in fitted}
    better = better_on_val(settings.verifiers, outcome.on_val)
    fusions = {name: {direction: each.overall for direction, each in own.items()} for name, own in weighings.items()}
    outcome.weighing = Weighing(better, fusions, settings.shifts, settings.other_models)
    if "untrained" in models:
        _measure_untrained(settings, dataset, models["untrained"], outcome, place)
    return outcome


def score(part: Part, rankings: Mapping[str, Sequence[tuple[str, Any]] | Sequence[GeneratedHit]]) -> Scores:
    """Score rankings of what was asked, query by query; the first entry of a hit is its item's id."""
    run = {query: [hit[0] for hit in rankings[content]] for query, content in part.queries.contents.items()}
    return retrieval_metrics(run, part.queries.right, len(part.items))


def mean_over_folds(split: str, parts: Mapping[Key, Part], rankings: Mapping[Key, Any]) -> dict[str, Scores]:
    """Return direction -> mean scores over the folds among the parts, as `fold_parts` names them."""
    scores: dict[str, list[Scores]] = {}
    for key, part in parts.items():
        if key.split.startswith(f"{split} fold "):
            scores.setdefault(key.direction, []).append(score(part, rankings[key]))
    return {direction: mean_metrics(own) for direction, own in scores.items()}


def better_on_val(verifiers: Sequence[VerifierName], on_val: Mapping[VerifierName, Mapping[str, Scores]]) -> str:
    """Return the verifier with the greater sum of R@1 over the directions of val; the first of equals."""
    if not verifiers:
        return "none"
    return max(verifiers, key=lambda name: sum(scores["R@1"] for scores in on_val[name].values()))


def write_outcome(run: RunFolder, outcome: Outcome, protocol: str, ceiling: Mapping[str, Any]) -> None:
    """Write t2i/, i2t/, verification.json and, last, metrics.json."""
    chosen = outcome.counting.get(outcome.verifier, {})  # type: ignore[call-overload]
    for direction, part in outcome.parts.items():
        _write_direction(run, direction, part, outcome.hits[direction], chosen.get(direction, {}))
    write_weighing(run / WEIGHTS, outcome.weighing)
    write_json(run / "metrics.json", metrics_of(outcome, protocol, ceiling))


def metrics_of(outcome: Outcome, protocol: str, ceiling: Mapping[str, Any]) -> dict[str, Any]:
    """Return what metrics.json holds."""
    fused, alone = (_score_verifiers(outcome.parts, rankings) for rankings in (outcome.rankings, outcome.alone))
    counting = fused if outcome.fusion == "val" else alone
    metrics: dict[str, Any] = {}
    for direction, part in outcome.parts.items():
        metrics[direction] = {"generated": score(part, outcome.hits[direction])}
        if outcome.verifier in counting:
            metrics[direction]["verified"] = counting[outcome.verifier][direction]
    if outcome.folds.get("generated"):
        metrics["folds"] = _folds(outcome)
    if outcome.baselines:
        metrics["baselines"] = outcome.baselines
    if ceiling:
        metrics["ceiling"] = dict(ceiling)
    return {
        **metrics,
        "protocol": protocol,
        "split": outcome.split,
        "num_beams": outcome.num_beams,
        "constraint": outcome.constraint,
        "verifier": outcome.verifier,
        "fusion": outcome.fusion,
        "fitted_on": "val" if any(outcome.weighing.fusions.values()) else None,
        "cross_fitted": outcome.split == "val",
        "verifiers": fused,
        "verifiers_alone": alone,
        "validation": outcome.on_val,
        "order_bias": outcome.order_bias,
        "ablations": outcome.ablations,
        "num_unanswerable": {direction: len(part.queries.unanswerable) for direction, part in outcome.parts.items()},
        "num_shared_sentences": {
            direction: part.queries.num_shared_sentences for direction, part in outcome.parts.items()
        },
        "seconds": {**outcome.seconds, "all": round(sum(outcome.seconds.values()), 3)},
        **as_record(outcome.mismatches),
    }


def _score_verifiers(
    parts: Mapping[str, Part], rankings: Mapping[VerifierName, Mapping[str, Mapping[str, Ranking]]]
) -> dict[str, dict[str, Scores]]:
    return {
        name: {direction: score(parts[direction], ranked) for direction, ranked in own.items()}
        for name, own in rankings.items()
    }


def _folds(outcome: Outcome) -> dict[str, Any]:
    """Return direction -> "generated" and "verified" -> mean scores."""
    stages = {"generated": outcome.folds["generated"], "verified": outcome.folds.get(outcome.verifier, {})}
    return {
        direction: {stage: own[direction] for stage, own in stages.items() if direction in own}
        for direction in outcome.folds["generated"]
    }


def _generate(
    settings: EvaluateSettings, dataset: Dataset, model: str, parts: Mapping[Key, Part], place: Workplace
) -> tuple[dict[Key, dict[str, list[GeneratedHit]]], dict[str, dict[str, Scores]]]:
    """Return the generator's rankings of all parts, and the ablations of the measured ones."""
    asked = _ask(model, settings, dataset, place)
    sizes = {"num_beams": settings.num_beams, "batch_size": settings.batch_size}
    if settings.constraint:
        engine = settings.engine
        hits = {key: generate_hits(asked, key, part, place, engine=engine, **sizes) for key, part in parts.items()}
    else:
        hits = {key: generate_freely(asked, key, part, place, **sizes) for key, part in parts.items()}
    ablations: dict[str, dict[str, Scores]] = {}
    if settings.ablations:
        for key, part in parts.items():
            if key.split == settings.split:
                suffixed = {content: without_verification(own) for content, own in hits[key].items()}
                ablations.setdefault("without_verification", {})[key.direction] = score(part, suffixed)
                if settings.constraint:
                    drawn = Part(part.items, draw_queries(part.queries, settings.num_ablation_queries))
                    if drawn.contents:
                        freely = score(drawn, generate_freely(asked, key, drawn, place, **sizes))
                        ablations.setdefault("with_trie", {})[key.direction] = score(drawn, hits[key])
                        ablations.setdefault("without_trie", {})[key.direction] = freely
    return hits, ablations


def _ask(model: str, settings: EvaluateSettings, dataset: Dataset, place: Workplace) -> Asked:
    checkpoint = load_for_inference(model, dtype=settings.dtype, device=settings.device, base=settings.base)
    return ask(checkpoint, dataset, place.features)


def _verify(
    name: VerifierName,
    settings: EvaluateSettings,
    dataset: Dataset,
    model: str,
    shortlists: Mapping[Key, Sequence[Shortlist]],
    outcome: Outcome,
    place: Workplace,
) -> dict[Key, list[list[float]]]:
    """Return a verifier's scores; where an order can sway it, measure that too."""
    asked = _ask(model, settings, dataset, place)
    if name == "likelihood":
        return verify_by_likelihood(asked, shortlists, place)
    shifts = settings.shifts
    scores = {key: verify_by_letter(name, asked, key, own, place, shifts) for key, own in shortlists.items()}
    if name in ORDERED:
        _add_order_bias(ORDERED[name], settings, asked, outcome, place)
    return scores


def _measure_untrained(
    settings: EvaluateSettings, dataset: Dataset, model: str, outcome: Outcome, place: Workplace
) -> None:
    asked = _ask(model, settings, dataset, place)
    _add_order_bias("untrained", settings, asked, outcome, place)


def _add_order_bias(name: str, settings: EvaluateSettings, asked: Asked, outcome: Outcome, place: Workplace) -> None:
    """Measure one question, the shifts that were asked for, and all of them, on a few queries a direction."""
    for direction, part in outcome.parts.items():
        count = settings.num_candidates
        puzzles = draw_puzzles(part, outcome.hits[direction], count, settings.num_order_queries)
        if puzzles:
            key = Key(settings.split, direction)
            measured = measure_order_bias(name, asked, key, puzzles, place, (1, settings.shifts, count))
            outcome.order_bias.setdefault(direction, []).append(measured)


def _write_direction(
    run: RunFolder,
    direction: str,
    part: Part,
    hits: Mapping[str, Sequence[GeneratedHit]],
    verified: Mapping[str, Ranking],
) -> None:
    contents, folder = part.queries.contents, run / direction
    generated = {query: hits[content] for query, content in contents.items()}
    ranked = {query: verified[content] for query, content in contents.items() if content in verified}
    write_run(
        folder / "run.generated.trec", {q: [(hit.item_id, hit.score) for hit in own] for q, own in generated.items()}
    )
    if ranked:
        write_run(folder / "run.verified.trec", ranked)
    write_qrels(folder / "qrels.trec", part.queries.right)
    write_per_query(folder / "per_query.jsonl", part.queries.shown, part.queries.right, generated, ranked)
