"""Tables of the README, written from the rows of `benchmarks.quickstart`.

A verifier is among the rankings only if it improves the generator's order; a sentence names those that do not, lest a
table that repeats the generator's figures reads as if they worked.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from semcore.data.directions import Direction
from semcore.models.verifier_registry import VERIFIERS
from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text
from semcore.runtime.markdown_tables import markdown_table

LABELS = tuple(direction.label for direction in Direction)
METRICS = ("R@1", "R@5", "R@10", "rSum")
STAGES = ("caption", "identifiers", "train_identifier", "candidates", "train_verifier", "evaluate")
LEAST_GAIN = 1.0  # points of R@1: seeds differ by more
WIDTH = 120

Held = Mapping[str, float]
"""Name of a row -> its figure."""


def write_tables(document: Path, results: str, held: Held) -> None:
    """Write the tables between the document's markers of a results file.

    Args:
        document: a markdown file with `<!-- results: FILE -->` and `<!-- /results -->`.
        results: the file's name in the marker.
        held: the content of the results file.

    Raises:
        UserError: the document has no such markers.
    """
    text = document.read_text(encoding="utf-8")
    begin, end = f"<!-- results: {results} -->", "<!-- /results -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise UserError(f"{document} has no lines {begin} and {end} to write the tables between; add them")
    with atomic_text(document) as handle:
        handle.write(f"{before}{begin}\n\n{tables(held)}\n\n{end}{after}")


def tables(held: Held) -> str:
    """Return the table of scores, a sentence on verifiers that do not work, and the table of costs."""
    working = [verifier for verifier in VERIFIERS if works(held, verifier)]
    scores = [
        (direction, ranking, *(_figure(held, f"{direction}, {ranking}, {metric}", 1) for metric in METRICS))
        for direction in LABELS
        for ranking in _rankings(held, direction, working)
    ]
    score_table = markdown_table(("direction", "ranking", *METRICS), scores, num_texts=2)
    costs = [
        (stage, _figure(held, f"{stage}, seconds", 0), _figure(held, f"{stage}, peak memory a process, GB", 1))
        for stage in STAGES
    ]
    cost_table = markdown_table(("stage", "seconds", "peak memory a process, GB"), costs, num_texts=1)
    failing = [textwrap.fill(_failure(held, verifier), WIDTH) for verifier in measured(held) if verifier not in working]
    return "\n\n".join([score_table, *failing, cost_table])


def measured(held: Held) -> list[str]:
    """Return the verifiers in a results file."""
    return [name for name in VERIFIERS if all(f"{d}, verified, {name}, R@1" in held for d in LABELS)]


def works(held: Held, verifier: str) -> bool:
    """Return whether a verifier improves the generator's order, in one direction at least."""
    return verifier in measured(held) and max(_gains(held, verifier)) >= LEAST_GAIN


def _gains(held: Held, verifier: str) -> list[float]:
    return [held[f"{d}, verified, {verifier}, R@1"] - held[f"{d}, generated, R@1"] for d in LABELS]


def _rankings(held: Held, direction: str, working: Sequence[str]) -> list[str]:
    paper = "generated, the paper's score"
    rankings = [*([paper] if f"{direction}, {paper}, R@1" in held else []), "generated"]
    for verifier in measured(held):
        alone = f"{verifier} alone"
        rankings += [alone] if f"{direction}, {alone}, R@1" in held else []
        rankings += [f"verified, {verifier}"] if verifier in working else []
    return [*rankings, "ceiling"]


def _failure(held: Held, verifier: str) -> str:
    moved = " and ".join(
        f"from {held[f'{direction}, generated, R@1']:.1f} to {held[f'{direction}, verified, {verifier}, R@1']:.1f} "
        f"({direction})"
        for direction in LABELS
    )
    return (
        f"The {verifier} verifier does not work on so small a model, so that no row calls its order verified: fused "
        f"with the generator's score it moves R@1 {moved}, which is no gain."
    )


def _figure(held: Held, name: str, decimals: int) -> str:
    return f"{held[name]:.{decimals}f}" if name in held else "–"
