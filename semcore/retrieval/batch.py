"""Resumable batch inference: generation and verification over a split, in chunks that are written to disk.

A split view is one direction of one split. Equal queries are searched once; queries of similar length
share a batch, to reduce padding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from semcore.data.dataset import Dataset, ImageRecord, verify_image
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item, Queries, items_by_id, read_items, read_queries
from semcore.data.run_folder import RunFolder
from semcore.data.subsets import first_images
from semcore.decoding.prior_correction import Correction
from semcore.models.session import ModelSession
from semcore.models.verifier_registry import VerifierName
from semcore.retrieval.corpus import Corpus, build_corpus
from semcore.retrieval.generator import Engine, GuideOf, generate, generate_without_trie
from semcore.retrieval.hits import GeneratedHit
from semcore.retrieval.shortlist import Shortlist, images_shown, make_shortlist
from semcore.retrieval.verifiers import pair_scores, verifier_scores
from semcore.runtime.errors import UnreadableImage
from semcore.runtime.long_lists import chosen, listed
from semcore.runtime.resumable import in_chunks
from semcore.verification import VerifierSession

T = TypeVar("T")
QUERIES_PER_CHUNK = 256


class SplitKey(NamedTuple):
    """The key of a split view."""

    split: str
    direction: Direction


@dataclass(frozen=True)
class SplitView:
    """One direction of one split: items and queries."""

    items: Mapping[str, Item]
    queries: Queries

    @property
    def unique_queries(self) -> list[str]:
        """Return every sentence or image that is a query once, the shortest first."""
        return sorted(set(self.queries.contents.values()), key=lambda content: (len(content), content))


@dataclass
class WorkDir:
    """The folder of an evaluation's chunks, with the seconds of each step."""

    folder: Path
    progress: bool
    features: Path | None = None
    """RUN/features, the feature store; None stores nothing."""
    seconds: dict[str, float] = field(default_factory=dict)

    def run(
        self, name: str, tasks: Sequence[T], size: int, work: Callable[[list[T]], list[Any]], unit: str
    ) -> list[Any]:
        """Run a step's work in chunks and record its seconds."""
        result = in_chunks(self.folder, name, tasks, size, work, progress=self.progress, unit=unit)
        self.seconds[name] = round(result.seconds, 3)
        return result.rows


def read_split_views(
    run: RunFolder,
    dataset: Dataset,
    split: str,
    most_queries: int | None = None,
    directions: Collection[Direction] = tuple(Direction),
) -> dict[SplitKey, SplitView]:
    """Return the views of a split that have items and queries.

    Args:
        run: holds the identifiers.
        dataset: holds the queries.
        split: "train", "val" or "test".
        most_queries: draw so many queries at random where a direction has more; all by default.
        directions: that are wanted.
    """
    asks_with_images = any(direction.queries_are_images for direction in directions)
    images = read_items(run, dataset, Direction.T2I, split)
    sentences = read_items(run, dataset, Direction.I2T, split) if asks_with_images else []
    records = _run_images(run, dataset, split)
    unreadable = _unreadable(dataset, records, items_by_id(images)) if asks_with_images else set()
    views = {}
    for direction, items in zip(Direction, (images, sentences), strict=True):
        if direction not in directions:
            continue
        queries = read_queries(records, direction, images, sentences, unreadable, most_queries)
        if items and queries.contents:
            views[SplitKey(split, direction)] = SplitView(items_by_id(items), queries)
    return views


def _run_images(run: RunFolder, dataset: Dataset, split: str) -> Sequence[ImageRecord]:
    """Return a split's images: all, or those that a `--limit` of captions or identifiers chose."""
    stages = run.manifest().get("stages", {})
    limits = [stages.get(stage, {}).get("settings", {}).get("limit") for stage in ("caption", "identifiers")]
    wanted = [{record.image_id for record in first_images(dataset, limit)} for limit in limits if limit is not None]
    records = dataset.split(split)
    return chosen(records, lambda record: all(record.image_id in own for own in wanted)) if wanted else records


def _unreadable(dataset: Dataset, records: Sequence[ImageRecord], known: Container[str]) -> set[str]:
    """Return the images that cannot be read; only those without an identifier are checked."""
    unreadable = set()
    for record in records:
        if record.image_id not in known:
            try:
                verify_image(dataset.image_path(record))
            except UnreadableImage:
                unreadable.add(record.image_id)
    return unreadable


def generate_hits(
    session: ModelSession,
    key: SplitKey,
    view: SplitView,
    work_dir: WorkDir,
    *,
    num_beams: int,
    batch_size: int,
    engine: Engine,
    whole_beam: bool = False,
    queries: Sequence[str] | None = None,
    correct: Callable[[Corpus], Correction] | None = None,
    guide: Callable[[Corpus], GuideOf] | None = None,
    name: str = "",
) -> dict[str, list[GeneratedHit]]:
    """Return query -> the items the generator finds, best first.

    Args:
        session: the generator.
        key: the view's key.
        view: items and queries.
        work_dir: keeps finished chunks.
        num_beams: width of the beam.
        batch_size: queries searched at once.
        engine: the beam-search backend.
        whole_beam: as in `generate`.
        queries: some of those of the view; all by default.
        correct: returns what the search of the view's items takes off the scores; nothing by default.
        guide: returns what guides the search of the view's items; nothing by default.
        name: of the step.
    """
    corpus = build_corpus(session, key.direction, listed(view.items.values()))
    correction = None if correct is None else correct(corpus)
    guide_of = None if guide is None else guide(corpus)

    def work(chunk: list[str]) -> list[Any]:
        return generate(
            session, key.direction, chunk, corpus, num_beams=num_beams, batch_size=batch_size, engine=engine,
            correction=correction, guide=guide_of, whole_beam=whole_beam,
        )  # fmt: skip

    chosen = view.unique_queries if queries is None else list(queries)
    name = name or f"generate {key.direction} {key.split}"
    return _search(session, name, key, chosen, work_dir, QUERIES_PER_CHUNK, work)


def generate_unconstrained(
    session: ModelSession, key: SplitKey, view: SplitView, work_dir: WorkDir, *, num_beams: int, batch_size: int
) -> dict[str, list[GeneratedHit]]:
    """Return query -> the items whose identifiers an unconstrained search generates."""
    corpus = build_corpus(session, key.direction, listed(view.items.values()))

    def work(queries: list[str]) -> list[Any]:
        return generate_without_trie(session, key.direction, queries, corpus, num_beams=num_beams)

    name = f"without trie {key.direction} {key.split}"
    return _search(session, name, key, view.unique_queries, work_dir, batch_size, work)


def _search(
    session: ModelSession,
    name: str,
    key: SplitKey,
    queries: Sequence[str],
    work_dir: WorkDir,
    size: int,
    work: Callable[[list[str]], list[Any]],
) -> dict[str, list[GeneratedHit]]:
    """Search for queries, in chunks of `size`."""
    if key.direction.queries_are_images:
        session.features.add(queries, progress=work_dir.progress)
    rows = work_dir.run(name, queries, size, work, "query")
    return {query: [GeneratedHit(*hit) for hit in hits] for query, hits in zip(queries, rows, strict=True)}


def make_shortlists(
    view: SplitView, hits: Mapping[str, Sequence[GeneratedHit]], num_candidates: int
) -> list[Shortlist]:
    """Return the shortlist of every query, in the order of `view.unique_queries`."""
    return [make_shortlist(content, hits[content], view.items, num_candidates) for content in view.unique_queries]


def verify_questions(
    verifier: VerifierName,
    session: VerifierSession,
    key: SplitKey,
    shortlists: Sequence[Shortlist],
    work_dir: WorkDir,
    num_shifts: int,
) -> list[list[float]]:
    """Return the score of every candidate by a verifier that reads questions."""
    session.features.add(images_shown(key.direction, shortlists), progress=work_dir.progress)

    def work(chunk: list[Shortlist]) -> list[Any]:
        return verifier_scores(verifier, session, key.direction, chunk, num_shifts=num_shifts)

    return work_dir.run(f"{verifier} {key.direction} {key.split}", shortlists, QUERIES_PER_CHUNK, work, "query")


def verify_pairs(
    verifier: VerifierName, session: Any, shortlists: Mapping[SplitKey, Sequence[Shortlist]], work_dir: WorkDir
) -> dict[SplitKey, list[list[float]]]:
    """Return the score of every candidate of all views by a verifier of pairs; no pair is scored twice."""
    if isinstance(session, ModelSession):
        shown = [image_id for key, own in shortlists.items() for image_id in images_shown(key.direction, own)]
        session.features.add(shown, progress=work_dir.progress)
    return pair_scores(verifier, session, shortlists, lambda key: key.direction, work_dir.run)
