"""Verification of a finished run's own shortlists: as in its evaluation, against one query at a time from the files.

    semcore quickstart --out runs/quickstart
    python -m benchmarks.finished_run_verification --run runs/quickstart \
        --json benchmarks/results/run_verification-cpu.json

Ours reads stored features and batches all queries by length; the peer opens the images of one query, encodes them with
the vision tower and verifies it, then the next. A run with a verifier in candidate blocks has rows for it too: ours
reads every candidate once, the peer once per query. Same process, same weights, same queries, drawn from the test
split; the runs alternate and the median counts. Before anything is timed the scores of both sides are compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.report import Row, lower_is_better, publish
from benchmarks.timing import interleaved_medians
from semcore.commands.arguments import run_command
from semcore.data.dataset import load_dataset, open_image
from semcore.data.directions import Direction
from semcore.data.items_and_queries import read_items
from semcore.data.run_folder import RunFolder
from semcore.models.inference import load_for_inference
from semcore.models.lineage import as_record
from semcore.models.run_checkpoints import has_verifier, model_of
from semcore.models.run_lineage import check_run_models
from semcore.models.verifier_registry import VerifierName
from semcore.retrieval.hits import GeneratedHit
from semcore.retrieval.shortlist import Shortlist, images_shown, make_shortlist
from semcore.retrieval.verifiers import verifier_scores
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_jsonl
from semcore.runtime.settings import LineageSettings
from semcore.verification import BlockReader, VerifierSession, load_verifier

NUM_CANDIDATES = 10
TOLERANCE = 1.0
"""Largest difference of two log-probabilities: bfloat16 rounds batches of different composition differently."""
Scores = list[list[float]]


@dataclass
class Settings(LineageSettings):
    """What to measure."""

    run: Path
    """A finished run with a verifier_model."""
    json: Path | None = None
    """File to save the rows in."""
    num_queries: int = 100
    """Queries a direction."""
    repeats: int = 3
    """Runs of each side that count."""

    def __post_init__(self) -> None:
        for name in ("num_queries", "repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} takes a whole number of at least 1")


def main(settings: Settings) -> None:
    """Measure, print and save."""
    run = RunFolder(settings.run)
    dataset = load_dataset(run.data_folder())
    rows = []
    blocks: list[VerifierName] = ["blocks"] if has_verifier(run, "blocks") else []
    verifiers: list[VerifierName] = ["listwise", *blocks, "likelihood"]
    models: dict[str, str] = {name: model_of(run, name, settings.base) for name in verifiers}
    mismatches = check_run_models(run, dataset, models, base=settings.base, allow=settings.allowed)
    for name in verifiers:
        session = load_verifier(load_for_inference(models[name], base=settings.base), dataset, run / "features")
        paths = dataset.image_paths
        for direction in Direction:
            items = {item.item_id: item for item in read_items(run, dataset, direction, "test")}
            shortlists = draw_shortlists(run / direction / "per_query.jsonl", direction, items, settings.num_queries)
            rows.append(verification_row(name, direction, session, shortlists, paths, settings.repeats))
    counts = {direction: sum(1 for _ in read_jsonl(run / direction / "per_query.jsonl")) for direction in Direction}
    publish([*rows, whole_row(rows, counts)], settings.json, **as_record(mismatches))


def whole_row(rows: list[Row], counts: dict[Direction, int]) -> Row:
    """Return the seconds of `--verifier both` for all test queries, from its verifiers' rows for one query."""
    weighed = [(row, counts[Direction(row.name[-3:])]) for row in rows if not row.name.startswith("blocks")]
    ours, peer = (sum(count * getattr(row, side) for row, count in weighed) for side in ("ours", "peer"))
    note = " and ".join(f"{count} queries {direction}" for direction, count in counts.items())
    return lower_is_better("listwise_and_likelihood", ours, peer, "s", note)


def draw_shortlists(path: Path, direction: Direction, items: dict, num_queries: int) -> list[Shortlist]:
    """Return the generator's shortlists of queries drawn at random."""
    found = [row for row in read_jsonl(path) if len(row["generated"]) > 1]
    drawn = random.Random(0).sample(found, min(num_queries, len(found)))
    content = "query_id" if direction.queries_are_images else "query"
    return [
        make_shortlist(row[content], [GeneratedHit(**hit) for hit in row["generated"]], items, NUM_CANDIDATES)
        for row in drawn
    ]


def verification_row(
    name: VerifierName,
    direction: Direction,
    session: VerifierSession,
    shortlists: list[Shortlist],
    paths: Mapping[str, Path],
    repeats: int,
) -> Row:
    """Time one verifier in one direction."""
    session.features.add(images_shown(direction, shortlists))

    def score(session: VerifierSession, chunk: list[Shortlist]) -> Scores:
        blocks = session.blocks and BlockReader(session.checkpoint, session.prompts)  # has read nothing yet
        return verifier_scores(name, replace(session, blocks=blocks), direction, chunk)

    def ours() -> Scores:
        return score(session, shortlists)

    def peer() -> Scores:
        return [own for shortlist in shortlists for own in score(encode_now(shortlist), [shortlist])]

    def encode_now(shortlist: Shortlist) -> VerifierSession:
        shown = images_shown(direction, [shortlist])
        return session.with_pictures({image_id: open_image(paths[image_id]) for image_id in shown})

    apart = furthest(ours(), peer())
    if apart > TOLERANCE:
        raise RuntimeError(f"the scores of both sides differ by {apart:.4f}")
    sides: dict[str, Callable[[], Scores]] = {"ours": ours, "peer": peer}
    seconds = {side: taken / len(shortlists) for side, taken in interleaved_medians(sides, repeats).items()}
    note = f"{len(shortlists)} queries of up to {NUM_CANDIDATES} candidates; scores differ by {apart:.1g} at most"
    return lower_is_better(f"{name}_{direction}", seconds["ours"], seconds["peer"], "s a query", note)


def furthest(one: Scores, other: Scores) -> float:
    """Return the greatest difference between two sets of scores."""
    return max(abs(a - b) for own, its in zip(one, other, strict=True) for a, b in zip(own, its, strict=True))


if __name__ == "__main__":
    run_command(main, Settings)
