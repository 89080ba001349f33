"""The steps of an evaluation that ask a model: each in chunks that outlive a kill.

A part is one direction of one split. Equal sentences are asked once; queries of about equal length
share a batch, so that little is padding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from semcore.data.dataset import Dataset, ImageRecord, verify_image
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item, Queries, draw_queries, read_items, read_queries
from semcore.data.run_folder import RunFolder
from semcore.data.subsets import first_images
from semcore.decoding.prior_correction import Correction
from semcore.retrieval.corpus import Corpus, build_corpus
from semcore.retrieval.generator import Engine, generate, generate_without_trie, query_inputs
from semcore.retrieval.hits import GeneratedHit
from semcore.retrieval.session import ModelSession, images_shown
from semcore.retrieval.shortlist import Shortlist, make_shortlist
from semcore.retrieval.verifiers import VerifierName, combine_likelihoods, pairs_to_score, verifier_scores
from semcore.runtime.errors import UnreadableImage
from semcore.runtime.resumable import in_chunks
from semcore.verification import (
    given_image_log_probabilities,
    sentence_log_probabilities,
)

T = TypeVar("T")
QUERIES_PER_CHUNK = 256
IMAGES_PER_CHUNK = 64
SENTENCES_PER_CHUNK = 2_048


class SplitKey(NamedTuple):
    """Names a part."""

    split: str
    direction: Direction


@dataclass(frozen=True)
class SplitView:
    """One direction of one split: what is searched and what is asked."""

    items: dict[str, Item]
    queries: Queries

    @property
    def unique_queries(self) -> list[str]:
        """Return what is asked, each once, the shortest first."""
        return sorted(set(self.queries.contents.values()), key=lambda content: (len(content), content))


@dataclass
class WorkDir:
    """Where the chunks of an evaluation lie, and the seconds of each step."""

    folder: Path
    progress: bool
    features: Path | None = None
    """RUN/features, where what images look like to a model is kept; None keeps nothing."""
    seconds: dict[str, float] = field(default_factory=dict)

    def run(
        self, name: str, tasks: Sequence[T], size: int, work: Callable[[list[T]], list[Any]], unit: str
    ) -> list[Any]:
        """Do a step's work in chunks and note its seconds."""
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
    """Return the parts of a split that have items and queries.

    Args:
        run: holds the identifiers.
        dataset: holds the queries.
        split: "train", "val" or "test".
        most_queries: draw so many queries at random where a direction has more; all by default.
        directions: that are wanted.
    """
    images, sentences = (read_items(run, dataset, direction, split) for direction in Direction)
    wanted = _wanted_images(run, dataset)
    records = [record for record in dataset.split(split) if record.image_id in wanted]
    asks_with_images = any(direction.queries_are_images for direction in directions)
    unreadable = _unreadable(dataset, records, {item.item_id for item in images}) if asks_with_images else set()
    views = {}
    for direction, items in zip(Direction, (images, sentences), strict=True):
        if direction not in directions:
            continue
        queries = draw_queries(read_queries(records, direction, images, sentences, unreadable), most_queries)
        if items and queries.contents:
            views[SplitKey(split, direction)] = SplitView({item.item_id: item for item in items}, queries)
    return views


def _wanted_images(run: RunFolder, dataset: Dataset) -> set[str]:
    """Return the images that the run is about: all, or those that a `--limit` of captions or identifiers chose."""
    stages = run.manifest().get("stages", {})
    limits = [stages.get(stage, {}).get("settings", {}).get("limit") for stage in ("caption", "identifiers")]
    chosen = [{record.image_id for record in first_images(dataset, limit)} for limit in limits]
    return set.intersection(*chosen)


def _unreadable(dataset: Dataset, records: Sequence[ImageRecord], known: Collection[str]) -> set[str]:
    """Return the images that cannot be read, among those without an identifier: most of them have none for it."""
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
    name: str = "",
) -> dict[str, list[GeneratedHit]]:
    """Return what is asked -> the items the generator finds, best first.

    Args:
        session: the generator.
        key: names the view.
        view: what is searched and asked.
        work_dir: where results are kept from a kill.
        num_beams: width of the beam.
        batch_size: queries searched at once.
        engine: who searches.
        whole_beam: as in `generate`.
        queries: some of those of the view; all by default.
        correct: returns what the search of the view's items takes off the scores; nothing by default.
        name: of the step.
    """
    corpus = build_corpus(session.checkpoint, session.prompts, key.direction, list(view.items.values()))
    how = {"whole_beam": whole_beam, "correction": None if correct is None else correct(corpus)}

    def work(chunk: list[str]) -> list[Any]:
        return generate_chunk(session, key.direction, chunk, corpus, num_beams, batch_size, engine, **how)

    asked = view.unique_queries if queries is None else list(queries)
    if key.direction.queries_are_images:
        session.features.add(asked, progress=work_dir.progress)
    name = name or f"generate {key.direction} {key.split}"
    rows = work_dir.run(name, asked, QUERIES_PER_CHUNK, work, "query")
    return {content: [GeneratedHit(*hit) for hit in hits] for content, hits in zip(asked, rows, strict=True)}


def generate_chunk(
    session: ModelSession,
    direction: Direction,
    queries: list[str],
    corpus: Corpus,
    num_beams: int,
    batch_size: int,
    engine: Engine,
    whole_beam: bool = False,
    correction: Correction | None = None,
) -> list[list[GeneratedHit]]:
    """Search for one chunk of queries."""
    features = session.features.of(queries) if direction.queries_are_images else {}
    return generate(
        session.checkpoint,
        session.prompts,
        direction,
        queries,
        features,
        corpus,
        num_beams=num_beams,
        batch_size=batch_size,
        engine=engine,
        correction=correction,
        whole_beam=whole_beam,
    )


def generate_unconstrained(
    session: ModelSession, key: SplitKey, view: SplitView, work_dir: WorkDir, *, num_beams: int, batch_size: int
) -> dict[str, list[GeneratedHit]]:
    """Return what is asked -> the items whose identifiers a search of the whole vocabulary happens to write."""
    corpus = build_corpus(session.checkpoint, session.prompts, key.direction, list(view.items.values()))

    def work(queries: list[str]) -> list[Any]:
        features = session.features.of(queries) if key.direction.queries_are_images else {}
        inputs = query_inputs(session.checkpoint, session.prompts, key.direction, queries, features)
        return generate_without_trie(session.checkpoint, inputs, corpus, num_beams=num_beams)

    unique_queries = view.unique_queries
    if key.direction.queries_are_images:
        session.features.add(unique_queries, progress=work_dir.progress)
    rows = work_dir.run(f"without trie {key.direction} {key.split}", unique_queries, batch_size, work, "query")
    return {content: [GeneratedHit(*hit) for hit in hits] for content, hits in zip(unique_queries, rows, strict=True)}


def make_shortlists(
    view: SplitView, hits: Mapping[str, Sequence[GeneratedHit]], num_candidates: int
) -> list[Shortlist]:
    """Return the shortlist of everything that is asked, in the order of `view.unique_queries`."""
    return [make_shortlist(content, hits[content], view.items, num_candidates) for content in view.unique_queries]


def verify_by_options(
    verifier: VerifierName,
    session: ModelSession,
    key: SplitKey,
    shortlists: Sequence[Shortlist],
    work_dir: WorkDir,
    num_shifts: int,
) -> list[list[float]]:
    """Return the score of every candidate by the listwise or the pointwise verifier."""
    session.features.add(images_shown(key.direction, shortlists), progress=work_dir.progress)

    def work(chunk: list[Shortlist]) -> list[Any]:
        features = session.features.of(images_shown(key.direction, chunk))
        return verifier_scores(
            verifier,
            session.checkpoint,
            session.prompts,
            key.direction,
            chunk,
            features,
            num_shifts=num_shifts,
            blocks=session.blocks,
        )

    return work_dir.run(f"{verifier} {key.direction} {key.split}", shortlists, QUERIES_PER_CHUNK, work, "query")


def verify_by_likelihood(
    session: ModelSession, shortlists: Mapping[SplitKey, Sequence[Shortlist]], work_dir: WorkDir
) -> dict[SplitKey, list[list[float]]]:
    """Return the likelihood verifier's score of every candidate of all parts; no pair is scored twice."""
    pairs: dict[str, dict[str, None]] = {}
    for key, own in shortlists.items():
        for image_id, texts in pairs_to_score(key.direction, own).items():
            pairs.setdefault(image_id, {}).update(texts)
    tasks = [(image_id, sorted(texts)) for image_id, texts in sorted(pairs.items())]
    sentences = sorted({text for _, texts in tasks for text in texts})

    session.features.add(pairs, progress=work_dir.progress)

    def given_image(chunk: list[tuple[str, list[str]]]) -> list[Any]:
        features = session.features.of(image_id for image_id, _ in chunk)
        return given_image_log_probabilities(session.checkpoint, session.prompts, chunk, features)

    def without_image(chunk: list[str]) -> list[Any]:
        return sentence_log_probabilities(session.checkpoint, session.prompts, chunk)

    given = work_dir.run("likelihood with the image", tasks, IMAGES_PER_CHUNK, given_image, "image")
    alone = work_dir.run("likelihood without", sentences, SENTENCES_PER_CHUNK, without_image, "sentence")
    conditional = {
        (image_id, text): score
        for (image_id, texts), scores in zip(tasks, given, strict=True)
        for text, score in zip(texts, scores, strict=True)
    }
    marginal = dict(zip(sentences, alone, strict=True))
    return {key: combine_likelihoods(key.direction, own, conditional, marginal) for key, own in shortlists.items()}
