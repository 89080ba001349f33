"""Results of an evaluation: scores, and the files they are written to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from semcore.data.directions import Direction
from semcore.data.items_and_queries import num_identifiers
from semcore.data.run_folder import RunFolder
from semcore.evaluation.fitted_fusions import Ranking
from semcore.evaluation.inputs import protocol_parts
from semcore.evaluation.metrics import CUTOFFS, as_they_count, first_relevant_rank, retrieval_metrics
from semcore.evaluation.per_query import FALSE_NEGATIVES, write_per_query
from semcore.evaluation.statistics import hits as found
from semcore.evaluation.statistics import paired_difference
from semcore.evaluation.trec import write_qrels, write_run
from semcore.models.lineage import Mismatch, as_record
from semcore.models.verifier_registry import VerifierName
from semcore.retrieval.batch import SplitView
from semcore.retrieval.hits import GeneratedHit
from semcore.retrieval.prior_settings import PRIOR_FILE, PriorSettings, write_prior_settings
from semcore.retrieval.search_settings import SEARCH_FILE, SearchSettings, write_search_settings
from semcore.runtime.files import write_json, write_jsonl
from semcore.verification.score_fusion import FUSION_FILE, FusionSettings, write_fusion_settings

Scores = dict[str, float]
Ranked = Sequence[tuple[str, Any]] | Sequence[GeneratedHit]
"""Hits from the best on; the first entry of each is its item's id."""


@dataclass
class EvaluationResult:
    """Rankings and scores of an evaluation.

    Attributes:
        split: the evaluated split.
        num_beams: width of the beam.
        constraint: whether only identifiers that exist could be written.
        seconds: of each step.
        hits: direction -> query -> the generator's ranking, by the score that later stages use.
        paper_hits: likewise, by the paper's score; none where that is the one in use.
        prior_settings: the share of the identifiers' prior that came off the paper's score.
        rankings: verifier -> direction -> query -> its ranking, fused with the generator's.
        alone: likewise, by the verifier's score alone.
        fusion: "val" where the fused ranking is the final one, "none" where the verifier's own is.
        views: direction -> items and queries of the measured split.
        on_val: verifier -> direction -> scores on val, of the final ranking; no query is ranked with weights that were
            fitted on it.
        ablations: name -> direction -> scores.
        order_bias: direction -> order bias of the listwise verifier, model by model.
        fusion_settings: the verifiers' fitted fusions, for later searches.
        mismatches: lineage mismatches that were allowed.
        folds: "generated" or verifier -> direction -> mean scores over folds of the measured split.
        baselines: name -> direction -> scores of dense retrieval.
        search: what later searches do as this one did, beside the prior.
        val_corpus: direction -> items of "val" and of "train" that val's queries were searched in; none where nothing
            was fitted.
        candidates: direction -> figures of the fused candidates, where vectors were asked too.
        guide_on_val: direction -> weight of the guide -> scores on val, where it was fitted.
        analyses: heading of metrics.json -> direction -> figures: of the search, the confidence, the false negatives.
        false_negatives: direction -> entries of the audit.
        leak_check: what the models may have seen of the measured split.
    """

    split: str
    num_beams: int
    seconds: dict[str, float]
    views: dict[Direction, SplitView]
    hits: dict[Direction, dict[str, list[GeneratedHit]]]
    paper_hits: dict[Direction, dict[str, list[GeneratedHit]]] = field(default_factory=dict)
    prior_settings: PriorSettings = field(default_factory=PriorSettings)
    constraint: bool = True
    fusion: str = "val"
    rankings: dict[VerifierName, dict[Direction, dict[str, Ranking]]] = field(default_factory=dict)
    alone: dict[VerifierName, dict[Direction, dict[str, Ranking]]] = field(default_factory=dict)
    on_val: dict[VerifierName, dict[Direction, Scores]] = field(default_factory=dict)
    ablations: dict[str, dict[Direction, Scores]] = field(default_factory=dict)
    folds: dict[str, dict[Direction, Scores]] = field(default_factory=dict)
    baselines: dict[str, dict[Direction, Scores]] = field(default_factory=dict)
    search: SearchSettings = field(default_factory=SearchSettings)
    val_corpus: dict[str, dict[str, int]] = field(default_factory=dict)
    candidates: dict[Direction, dict[str, Any]] = field(default_factory=dict)
    guide_on_val: Mapping[Direction, Mapping[str, Scores]] = field(default_factory=dict)
    order_bias: dict[Direction, list[dict[str, Any]]] = field(default_factory=dict)
    fusion_settings: FusionSettings = field(default_factory=lambda: FusionSettings("none", {}))
    mismatches: list[Mismatch] = field(default_factory=list)
    analyses: dict[str, dict[Direction, Any]] = field(default_factory=dict)
    false_negatives: dict[Direction, list[dict[str, Any]]] = field(default_factory=dict)
    leak_check: dict[str, Any] = field(default_factory=dict)

    @property
    def verifier(self) -> str:
        """Return the verifier of the final ranking, "none" without any."""
        return self.fusion_settings.verifier

    @property
    def counting(self) -> dict[VerifierName, dict[Direction, dict[str, Ranking]]]:
        """Return the final rankings: fused, or the verifiers' own."""
        return self.rankings if self.fusion == "val" else self.alone


def score(view: SplitView, rankings: Mapping[str, Ranked]) -> Scores:
    """Score rankings query by query."""
    run = {query: [hit[0] for hit in rankings[content]] for query, content in view.queries.contents.items()}
    return retrieval_metrics(run, view.queries.relevant, len(view.items))


def score_identifiers(view: SplitView, rankings: Mapping[str, Sequence[GeneratedHit]]) -> Scores:
    """Score rankings as papers do that count identifiers, not items."""
    run = {query: [hit.item_id for hit in rankings[content]] for query, content in view.queries.contents.items()}
    named = {item_id for items in (*run.values(), *view.queries.relevant.values()) for item_id in items}
    identifiers = {item_id: view.items[item_id].identifier for item_id in named if item_id in view.items}
    return as_they_count(run, view.queries.relevant, identifiers, len(view.items))


def write_results(run: RunFolder, result: EvaluationResult, protocol: str, ceiling: Mapping[str, Any]) -> None:
    """Write t2i/, i2t/, prior.json, verification.json and, last, metrics.json."""
    chosen = result.counting.get(result.verifier, {})
    for direction, view in result.views.items():
        paper = result.paper_hits.get(direction, {})
        _write_direction(run, direction, view, result.hits[direction], paper, chosen.get(direction, {}))
        write_jsonl(run / direction / FALSE_NEGATIVES, result.false_negatives.get(direction, []))
    write_prior_settings(run / PRIOR_FILE, result.prior_settings)
    write_fusion_settings(run / FUSION_FILE, result.fusion_settings)
    write_search_settings(run / SEARCH_FILE, result.search)
    write_json(run / "metrics.json", {**metrics_of(result, protocol, ceiling), "protocol_parts": protocol_parts(run)})


def metrics_of(result: EvaluationResult, protocol: str, ceiling: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of metrics.json."""
    fused, alone = (_score_verifiers(result.views, rankings) for rankings in (result.rankings, result.alone))
    counting = fused if result.fusion == "val" else alone
    metrics: dict[str, Any] = {}
    for direction, view in result.views.items():
        metrics[direction] = {"generated": score(view, result.hits[direction])}
        if num_identifiers(view.items) < len(view.items):
            metrics[direction]["generated_as_they_count"] = score_identifiers(view, result.hits[direction])
        if direction in result.candidates:
            metrics[direction]["candidates"] = result.candidates[direction]["fused"]
        if direction in result.paper_hits:
            metrics[direction] |= _beside_the_paper(view, result.hits[direction], result.paper_hits[direction])
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
        "prior": {**asdict(result.prior_settings), "later_stages_use": "generated"},
        **_search_record(result),
        "verifier": result.verifier,
        "fusion": result.fusion,
        "fitted_on": "val" if any(result.fusion_settings.fusions.values()) else None,
        "cross_fitted": result.split == "val",
        "val_corpus": result.val_corpus,
        "verifiers": fused,
        "verifiers_alone": alone,
        "verifiers_less_generated": _verifiers_less_generated(result),
        "verifiers_less_chosen": _verifiers_less_chosen(result),
        "validation": result.on_val,
        "order_bias": result.order_bias,
        "ablations": result.ablations,
        "leak_check": result.leak_check,
        **result.analyses,
        "num_unanswerable": {direction: len(view.queries.unanswerable) for direction, view in result.views.items()},
        "num_shared_sentences": {
            direction: view.queries.num_shared_sentences for direction, view in result.views.items()
        },
        "seconds": {**result.seconds, "all": round(sum(result.seconds.values()), 3)},
        **as_record(result.mismatches),
    }


def _search_record(result: EvaluationResult) -> dict[str, Any]:
    """Return what metrics.json says of a guide and of fused candidates; nothing where there are none."""
    record: dict[str, Any] = {}
    if result.search.guide.kind != "none":
        record["guide"] = {**asdict(result.search.guide), "validation": result.guide_on_val}
    if result.candidates:
        found = {direction: own["found_by"] for direction, own in result.candidates.items()}
        record["candidates"] = {**asdict(result.search.candidates), "found_by_percent": found}
    return record


def _beside_the_paper(
    view: SplitView,
    hits: Mapping[str, Sequence[GeneratedHit]],
    paper_hits: Mapping[str, Sequence[GeneratedHit]],
) -> dict[str, Any]:
    """Return the scores of the paper's ranking, and the differences of ours from it."""
    return {"generated_paper": score(view, paper_hits), "generated_less_paper": _less(view, hits, paper_hits)}


def _verifiers_less_generated(result: EvaluationResult) -> dict[str, dict[Direction, dict[str, Any]]]:
    """Return verifier -> direction -> "fused" and "alone" -> differences from the order that the verifier was given."""
    orders = {"fused": result.rankings, "alone": result.alone}
    return {
        name: {
            direction: {kind: _less(view, own[name][direction], result.hits[direction]) for kind, own in orders.items()}
            for direction, view in result.views.items()
        }
        for name in result.rankings
    }


def _verifiers_less_chosen(result: EvaluationResult) -> dict[str, dict[Direction, dict[str, Any]]]:
    """Return each other verifier -> direction -> differences of its final order from the one that counts."""
    chosen = result.counting.get(result.verifier, {})
    return {
        name: {direction: _less(view, own[direction], chosen[direction]) for direction, view in result.views.items()}
        for name, own in result.counting.items()
        if name != result.verifier
    }


def _less(view: SplitView, rankings: Mapping[str, Ranked], other: Mapping[str, Ranked]) -> dict[str, Any]:
    """Return "R@K" -> by how much rankings are above others on the same queries, with the 95 % interval, in percent."""
    contents, relevant = view.queries.contents, view.queries.relevant
    ours, others = (
        [_rank(own, contents.get(query), right) for query, right in relevant.items()] for own in (rankings, other)
    )
    groups = [tuple(sorted(right)) for right in relevant.values()]
    return {
        f"R@{cutoff}": paired_difference(found(others, cutoff), found(ours, cutoff), groups=groups)._asdict()
        for cutoff in CUTOFFS
    }


def _rank(rankings: Mapping[str, Ranked], content: str | None, right: Collection[str]) -> int | None:
    """Return where the first right item stands; None where there is none, or nothing was asked."""
    return None if content is None else first_relevant_rank([hit[0] for hit in rankings[content]], right)


def _score_verifiers(
    views: Mapping[Direction, SplitView], rankings: Mapping[VerifierName, Mapping[Direction, Mapping[str, Ranking]]]
) -> dict[str, dict[Direction, Scores]]:
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


def _write_direction(
    run: RunFolder,
    direction: Direction,
    view: SplitView,
    hits: Mapping[str, Sequence[GeneratedHit]],
    paper_hits: Mapping[str, Sequence[GeneratedHit]],
    verified: Mapping[str, Ranking],
) -> None:
    contents, folder = view.queries.contents, run / direction
    generated = {query: hits[content] for query, content in contents.items()}
    ranked = {query: verified[content] for query, content in contents.items() if content in verified}
    paper = {query: paper_hits[content] for query, content in contents.items() if content in paper_hits}
    for name, rankings in {"generated": generated, "generated_paper": paper}.items():
        if rankings or name == "generated":
            scored = {query: [(hit.item_id, hit.score) for hit in own] for query, own in rankings.items()}
            write_run(folder / f"run.{name}.trec", scored)
    if ranked:
        write_run(folder / "run.verified.trec", ranked)
    write_qrels(folder / "qrels.trec", view.queries.relevant)
    write_per_query(folder / "per_query.jsonl", view.queries.display, view.queries.relevant, generated, ranked, paper)
