"""Tables of a run's figures, with intervals and explanatory sentences."""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any, Literal, NamedTuple

from semcore.evaluation.metrics import CUTOFFS
from semcore.evaluation.statistics import Interval, bootstrap_interval, hits, paired_randomisation_test
from semcore.models.verifier_registry import VERIFIERS
from semcore.report.prior import WITHOUT_PRIOR, guide_finding, prior_finding

COLUMNS = ("R@1", "R@5", "R@10", "rSum@5", "rSum", "MRR@10")

_STAGES = {
    "generated": "the order in which constrained beam search found the items",
    "generated_paper": "what it found in the order of the paper's score, log p(identifier | query)",
    "verified": "the shortlist in the order of a weighted sum of the verifier's and the generator's score; the weights "
    "are fitted on val, and the paper has no such sum",
}
_NAMES = {"generated_paper": "generated, paper"}
_ALONE = "the shortlist in the verifier's own order, as in the paper"
_OWN = "the shortlist in the order of the verifier's score alone, as in the paper"
_CANDIDATES = "what the generator and dense vectors found, in the order of their fused scores, before verification"
_AS_THEY_COUNT = "the generated order as papers count that compare identifiers: items that share one are found together"
_ABLATIONS = {
    "with_trie": "the generated order of the queries that the next row asks",
    "without_trie": "the same queries, the model writes freely; what is not an identifier finds nothing",
    "without_verification": "an arbitrary unique suffix decides between items that share an identifier",
}


class ScoreRow(NamedTuple):
    """One row of a score table; unknown columns are left out of `scores` and `intervals`."""

    name: str
    meaning: str
    scores: Mapping[str, float]
    intervals: Mapping[str, Interval]


class OrderRow(NamedTuple):
    """Effect of the candidates' order on one model's choices, in percent."""

    model: str
    shifts: int
    accuracy: float
    spread: float
    agreement: float
    by_position: Mapping[str, float]


class StageRow(NamedTuple):
    """Cost of one stage of the run; None where the manifest has no figure."""

    name: str
    seconds: float | None
    peak_memory_bytes: int | None
    num_processes: int | None
    engine: str
    loss: str


def score_rows(
    metrics: Mapping[str, Any], direction: str, rows: Sequence[Mapping[str, Any]], seed: int
) -> list[ScoreRow]:
    """Build the table of one direction: generated, verified, the verifier alone, ceiling, folds, baselines, ablations.

    Unknown figures have no row.

    Args:
        metrics: metrics.json.
        direction: "t2i" or "i2t".
        rows: The direction's per-query rows, from which the 95 % intervals are bootstrapped.
        seed: Seed of the bootstrap.
    """
    alone = metrics.get("fusion") == "none"
    meanings = {**_STAGES, "verified": _OWN} if alone else _STAGES
    if "generated_paper" in metrics[direction] and metrics["prior"]["choice"] != 0:
        meanings = {**meanings, "generated": WITHOUT_PRIOR}
    table = [
        ScoreRow(_NAMES.get(stage, stage), meaning, metrics[direction][stage], _intervals(rows, stage, seed))
        for stage, meaning in meanings.items()
        if stage in metrics[direction]
    ]
    if fused := metrics[direction].get("candidates"):
        table.append(ScoreRow("candidates", _CANDIDATES, fused, {}))
    if shared := metrics[direction].get("generated_as_they_count"):
        table.append(ScoreRow("generated, as they count", _AS_THEY_COUNT, shared, {}))
    own = metrics.get("verifiers_alone", {}).get(metrics.get("verifier"), {})
    if direction in own and not alone:
        table.append(ScoreRow(f"{metrics['verifier']} alone", _ALONE, own[direction], {}))
    if ceiling := metrics.get("ceiling", {}).get(direction):
        table.append(ScoreRow("ceiling", "a reader that makes no mistake", ceiling, {}))
    for stage, scores in metrics.get("folds", {}).get(direction, {}).items():
        meaning = f"mean over folds of {scores['num_items']:,.0f} items, each searched by itself"
        table.append(ScoreRow(f"{stage}, folds", meaning, scores, {}))
    for name, scores in metrics.get("baselines", {}).items():
        if direction in scores:
            table.append(ScoreRow(*_baseline(name), scores[direction], {}))
    for name, scores in metrics.get("ablations", {}).items():
        if direction in scores:
            table.append(_ablation(name, scores[direction]))
    return table


def verifier_rows(metrics: Mapping[str, Any], direction: str) -> list[ScoreRow]:
    """Build the comparison of the verifiers in one direction, "seconds" among the scores where they are known."""
    rows = []
    for name, verifiers in metrics.get("verifiers", {}).items():
        if direction in verifiers:
            step = f"{name} {direction} {metrics.get('split')}"
            seconds = {"seconds": metrics["seconds"][step]} if step in metrics.get("seconds", {}) else {}
            meaning = "; ".join(filter(None, [_meaning(name), *_changes(metrics, name, direction, "fused")]))
            rows.append(ScoreRow(name, meaning, {**verifiers[direction], **seconds}, {}))
            if own := metrics.get("verifiers_alone", {}).get(name, {}).get(direction):
                meaning = "; ".join(_changes(metrics, name, direction, "alone"))
                rows.append(ScoreRow(f"{name} alone", meaning, own, {}))
    return rows


def _changes(metrics: Mapping[str, Any], name: str, direction: str, kind: Literal["fused", "alone"]) -> list[str]:
    """Say how far a verifier's R@1 is from that of the order it was given, and from the ranking that counts."""
    changes = []
    if given := metrics.get("verifiers_less_generated", {}).get(name, {}).get(direction):
        changes.append(f"R@1 {_points(given[kind]['R@1'])} against the generated order")
    counts = kind == ("alone" if metrics.get("fusion") == "none" else "fused")
    if counts and (chosen := metrics.get("verifiers_less_chosen", {}).get(name, {}).get(direction)):
        changes.append(f"{_points(chosen['R@1'])} against {metrics['verifier']}, which was chosen on val")
    return changes


def _points(change: Mapping[str, float]) -> str:
    """Write a paired difference in percent with its interval."""
    return f"{change['mean']:+.1f} points (95 % interval {change['low']:+.1f} to {change['high']:+.1f})"


def verifier_note(metrics: Mapping[str, Any]) -> str:
    """Explain the two rows of each verifier."""
    text = (
        "A verifier's row is ordered by a weighted sum of its score and the generator's, with weights fitted on val: "
        "ours, the paper has no such sum. The row alone is the verifier's own order of the shortlist, the paper's way"
    )
    return text + (", and the one that counts as verified here." if metrics.get("fusion") == "none" else ".")


def split_note(metrics: Mapping[str, Any]) -> str:
    """Name the evaluated split, and the split on which parameters were fitted."""
    split = str(metrics.get("split", ""))
    if not metrics.get("cross_fitted"):
        return split
    return f"{split}; weights are fitted on it too: each fifth of it is ranked with those of the other four"


def unanswerable_note(metrics: Mapping[str, Any], direction: str) -> str:
    """State how many queries of a direction have no retrievable relevant item, empty where there are none."""
    number = metrics.get("num_unanswerable", {}).get(direction, 0)
    if not number:
        return ""
    return (
        f"{number:,} of the queries can find nothing right, since no item that answers them has an identifier or their "
        "image cannot be read; they count as misses."
    )


def order_rows(metrics: Mapping[str, Any], direction: str) -> list[OrderRow]:
    """Build the table of order bias in one direction, empty where it was not measured."""
    return [
        OrderRow(
            measured["model"],
            row["shifts"],
            row["accuracy"],
            row["spread"],
            row["agreement"],
            dict(zip(ascii_uppercase, row["accuracy_by_position"], strict=False)),
        )
        for measured in metrics.get("order_bias", {}).get(direction, [])
        for row in measured["rows"]
    ]


def order_note(metrics: Mapping[str, Any], direction: str) -> str:
    """Explain how the order bias of one direction was measured, empty where it was not."""
    for measured in metrics.get("order_bias", {}).get(direction, []):
        return (
            f"{measured['num_queries']} queries with one right item among {measured['num_candidates']} candidates, "
            f"each asked in every rotation of {measured['num_orders']} random orders; a guess is right in "
            f"{measured['chance']:.1f} % of the cases. Shifts: over how many rotations an answer is averaged. "
            "Spread: the standard deviation of the accuracy over the positions of the right item. Agreement: how "
            "often two random orders, or circles of them, lead to the same pick. Letters: the accuracy where the right "
            "item has that letter."
        )
    return ""


def findings(metrics: Mapping[str, Any], direction: str, rows: Sequence[Mapping[str, Any]], seed: int) -> list[str]:
    """State the effect of verification, the distance from the ceiling, and the number of indistinguishable items."""
    scores = metrics[direction]
    with_prior = "generated_paper" in scores and metrics["prior"]["choice"] != 0
    sentences = [prior_finding(metrics, direction)] if with_prior else []
    if guided := guide_finding(metrics, direction):
        sentences.append(guided)
    if sides := metrics.get("candidates", {}).get("found_by_percent", {}).get(direction):
        sentences.append(_sides(metrics["candidates"], sides))
    if "generated" in scores and "verified" in scores:
        sentences.append(_gain(scores["generated"], scores["verified"], rows, seed))
    own = metrics.get("verifiers_alone", {}).get(metrics.get("verifier"), {}).get(direction)
    if own and metrics.get("fusion") != "none":
        sentences.append(
            f"Alone, as in the paper, the verifier puts the same shortlist in an order of R@1 {own['R@1']:.1f}."
        )
    ceiling = metrics.get("ceiling", {}).get(direction, {}).get("R@1")
    if ceiling and "verified" in scores:
        share = 100 * scores["verified"]["R@1"] / ceiling
        sentences.append(
            f"A reader that makes no mistake reaches R@1 {ceiling:.1f}; this run stands at {share:.0f} % of it."
        )
    if shared := metrics.get("num_shared_sentences", {}).get(direction):
        sentences.append(
            f"{shared:,} sentences stand word for word under more than one image: no search can tell them apart. "
            "Where items tie, they are ranked in the order of the dataset."
        )
    return sentences


def stage_rows(manifest: Mapping[str, Any]) -> list[StageRow]:
    """Build the table of every stage's cost, in the order in which they ran, with the sum as "all"."""
    rows = [
        StageRow(
            name,
            stage.get("seconds"),
            stage.get("peak_memory_bytes"),
            stage.get("num_processes"),
            _engine(stage),
            _loss(stage),
        )
        for name, stage in manifest.get("stages", {}).items()
    ]
    seconds = [row.seconds for row in rows if row.seconds is not None]
    memory = [row.peak_memory_bytes for row in rows if row.peak_memory_bytes is not None]
    return [*rows, StageRow("all", sum(seconds), max(memory, default=None), None, "", "")] if rows else []


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested mappings for a two-column table: {"a": {"b": 1}} -> {"a b": "1"}; empty values are left out."""
    pairs: dict[str, str] = {}
    for key, value in nested.items():
        name = f"{prefix} {key}".strip()
        if isinstance(value, Mapping):
            pairs.update(flat(value, name))
        elif value not in (None, "", []):
            pairs[name] = f"{value:.4g}" if isinstance(value, float) else str(value)
    return pairs


def _sides(candidates: Mapping[str, Any], sides: Mapping[str, float]) -> str:
    """Say which side found the relevant items."""
    return (
        f"Candidates are the generator's and the {candidates['num_dense']} nearest by {candidates['model']}: of the "
        f"queries, {sides['both']:.1f} % have a relevant item from both, {sides['generator_only']:.1f} % from the "
        f"generator alone, {sides['dense_only']:.1f} % from the vectors alone, {sides['neither']:.1f} % from neither."
    )


def _meaning(verifier: str) -> str:
    """Return what a verifier does; "" of one that is not known here."""
    return VERIFIERS[verifier].meaning if verifier in VERIFIERS else ""


def _ablation(name: str, scores: Mapping[str, float]) -> ScoreRow:
    """Return an ablation's row; if it covers only some of the queries, the meaning says how many."""
    meaning = _ABLATIONS.get(name, "")
    if name in ("with_trie", "without_trie"):
        meaning += f"; {scores['num_queries']:,.0f} queries drawn at random"
    return ScoreRow(name.replace("_", " "), meaning, scores, {})


def _baseline(name: str) -> tuple[str, str]:
    """Return a baseline's short name and its description."""
    if name == "sentence-encoder":
        return "sentence encoder", "dense retrieval: sentences compared with the images' captions, nothing trained"
    short = name.rstrip("/").rpartition("/")[2]
    return short, f"dense retrieval: sentences compared with the images by {name}, nothing trained"


def _intervals(rows: Sequence[Mapping[str, Any]], stage: str, seed: int) -> dict[str, Interval]:
    ranks = [row[f"rank_{stage}"] for row in rows]
    return {
        f"R@{cutoff}": bootstrap_interval(hits(ranks, cutoff), groups=_groups(rows), seed=seed) for cutoff in CUTOFFS
    }


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the group of each query: queries with the same relevant items, such as the sentences of one image."""
    return [tuple(row["right"]) for row in rows]


def _gain(
    generated: Mapping[str, float], verified: Mapping[str, float], rows: Sequence[Mapping[str, Any]], seed: int
) -> str:
    before, after = (hits([row[f"rank_{stage}"] for row in rows], 1) for stage in ("generated", "verified"))
    test = paired_randomisation_test(before, after, groups=_groups(rows), seed=seed)
    chance = "p below 0.001" if test.p_value < 0.001 else f"p = {test.p_value:.3f}"
    sentence = (
        f"Verification moves R@1 from {generated['R@1']:.1f} to {verified['R@1']:.1f} "
        f"({test.difference:+.1f} points; {chance} in a paired randomisation test)"
    )
    distance = generated["R@10"] - generated["R@1"]
    if distance > 0 and test.difference > 0:
        sentence += f" and closes {100 * test.difference / distance:.0f} % of the distance to the generator's R@10"
    return sentence + "."


def _engine(stage: Mapping[str, Any]) -> str:
    engine = str(stage.get("engine", ""))
    return f"{engine}, ZeRO-{stage['zero_stage']}" if stage.get("zero_stage") else engine


def _loss(stage: Mapping[str, Any]) -> str:
    if "loss_first" not in stage or "loss_last" not in stage:
        return ""
    steps = f" in {stage['steps']:,} steps" if "steps" in stage else ""
    return f"{stage['loss_first']:.3f} → {stage['loss_last']:.3f}{steps}"
