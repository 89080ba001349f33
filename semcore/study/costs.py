"""Costs of a variant beside its scores: its identifiers, its seconds and bytes, and R@1 as papers count it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from semcore.data.directions import Direction
from semcore.data.identifier_files import read_identifiers
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.token_sequences import FlatSequences, flatten_text
from semcore.models.checkpoint import load_tokenizer
from semcore.models.tokenization import flat_answer_tokens
from semcore.runtime.files import read_json

TRAININGS = ("train_identifier", "train_ranking", "train_verifier", "train_verifier_blocks")


def costs_of(runs: Sequence[Path]) -> dict[str, Any]:
    """Return what a variant takes, from its evaluated runs of all seeds.

    Scores and counts are means over the runs, seconds are medians: other work of the machine lengthens single ones.

    Returns:
        "protocol": "inductive" or "transductive"; "training_seconds", of all trainings; "verification_seconds", a
        query, with those of val that fit the fusion, 0 where nothing was verified; and for each direction, of the
        measured split's items: "shared", percent of the items whose identifier another one has; "tokens", of an
        identifier with its end; "index_bytes", an item; "generation_seconds", a query; "R@1" of the generated order by
        items, "as they count" by identifiers, and "verified", None where nothing was verified.
    """
    metrics = [read_json(run / "metrics.json") for run in runs]
    directions = [direction for direction in Direction if direction in metrics[0]]
    return {
        "protocol": metrics[0]["protocol"],
        "training_seconds": round(median(_training_seconds(run) for run in runs), 1),
        "verification_seconds": round(median(_verification_seconds(own) for own in metrics), 4),
        **{direction: _of_direction(runs, metrics, direction) for direction in directions},
    }


def _of_direction(runs: Sequence[Path], metrics: Sequence[Mapping[str, Any]], direction: Direction) -> dict[str, Any]:
    scores = [own[direction] for own in metrics]
    sizes = [index_size(run, direction, own["split"]) for run, own in zip(runs, metrics, strict=True)]
    reports = [read_json(run / "identifiers" / "report.json") for run in runs]
    shared = [own[direction][of["split"]]["shared_percent"] for own, of in zip(reports, metrics, strict=True)]
    seconds = [_generation_seconds(own, direction) / own[direction]["generated"]["num_queries"] for own in metrics]
    verified = [own["verified"]["R@1"] for own in scores if "verified" in own]
    return {
        "shared": round(mean(shared), 2),
        "tokens": round(mean(tokens for tokens, _ in sizes), 2),
        "index_bytes": round(mean(nbytes for _, nbytes in sizes), 1),
        "generation_seconds": round(median(seconds), 4),
        "R@1": round(mean(own["generated"]["R@1"] for own in scores), 2),
        "as they count": round(mean(own.get("generated_as_they_count", own["generated"])["R@1"] for own in scores), 2),
        "verified": round(mean(verified), 2) if verified else None,
    }


def index_size(run: Path, direction: Direction, split: str) -> tuple[float, float]:
    """Return the mean tokens of an identifier, with its end, and the index's bytes an item."""
    rows = [row for row in read_identifiers(run / "identifiers", direction) if row["split"] == split]
    named = [(row["item_id"], text) for row in rows for text in (row["identifier"], *row.get("more", ()))]
    tokenizer = load_tokenizer(run / "identifier_model")
    sequences = FlatSequences(*flat_answer_tokens(tokenizer, "\n", (text for _, text in named)))
    index = IdentifierIndex.from_sequences(sequences, flatten_text([item for item, _ in named]))
    return float(sequences.lengths.mean()), index.nbytes / len(rows)


def _training_seconds(run: Path) -> float:
    stages = read_json(run / "manifest.json")["stages"]
    return sum(stages[stage]["seconds"] for stage in TRAININGS if stage in stages)


def _generation_seconds(metrics: Mapping[str, Any], direction: Direction) -> float:
    """Return the seconds of the search whose hits are ranked: the guided one, where there is one."""
    seconds, what = metrics["seconds"], f"{direction} {metrics['split']}"
    return float(seconds.get(f"generate guided {what}", seconds.get(f"generate {what}", 0.0)))


def _verification_seconds(metrics: Mapping[str, Any]) -> float:
    """Return the seconds of verification over the measured queries; those of val, which fit the fusion, are in them."""
    spent = sum(seconds for what, seconds in metrics["seconds"].items() if what.split()[0] in metrics["verifiers"])
    queries = sum(metrics[own]["generated"]["num_queries"] for own in Direction if own in metrics)
    return spent / queries if queries else 0.0
