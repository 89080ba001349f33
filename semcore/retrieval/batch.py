"""The steps of an evaluation that ask a model: each in chunks that outlive a kill.

A part is one direction of one split. Equal sentences are asked once; queries of about equal length
share a batch, so that little is padding.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from semcore.data.dataset import Dataset, ImageRecord, verify_image
from semcore.data.items_and_queries import Item, Queries, image_of, read_items, read_queries
from semcore.data.run_folder import RunFolder
from semcore.data.subsets import first_images
from semcore.evaluation.folds import assign_folds
from semcore.evaluation.per_query import GeneratedHit
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import Prompts, load_prompts
from semcore.models.visual_features import FeatureStore
from semcore.retrieval.ablations import generate_without_trie
from semcore.retrieval.generator import Corpus, Engine, build_corpus, generate, query_inputs
from semcore.retrieval.shortlist import (
    Shortlist,
    VerifierName,
    combine_likelihoods,
    make_shortlist,
    pairs_to_score,
    verifier_scores,
)
from semcore.runtime.errors import UnreadableImage
from semcore.runtime.resumable import in_chunks
from semcore.verification import (
    BlockReader,
    given_image_log_probabilities,
    read_attention,
    sentence_log_probabilities,
)

T = TypeVar("T")
QUERIES_A_CHUNK = 256
IMAGES_A_CHUNK = 64
SENTENCES_A_CHUNK = 2_048


class Key(NamedTuple):
    """Names a part."""

    split: str
    direction: str


@dataclass(frozen=True)
class Part:
    """One direction of one split: what is searched and what is asked."""

    items: dict[str, Item]
    queries: Queries

    @property
    def contents(self) -> list[str]:
        """Return what is asked, each once, the shortest first."""
        return sorted(set(self.queries.contents.values()), key=lambda content: (len(content), content))


@dataclass
class Workplace:
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


class Asked(NamedTuple):
    """A model that is asked: with its prompts, and the images as it sees them."""

    checkpoint: Checkpoint
    prompts: Prompts
    features: FeatureStore
    blocks: BlockReader | None = None
    """Reads questions in candidate blocks, where the model was trained to choose so."""


def ask(checkpoint: Checkpoint, dataset: Dataset, features: Path | None) -> Asked:
    """Put a checkpoint together with the prompts, and with the images of a dataset as RUN/features keeps them."""
    paths = {record.image_id: dataset.image_path(record) for record in dataset.images}
    prompts = load_prompts(special_tokens=checkpoint.special_tokens)
    blocks = BlockReader(checkpoint, prompts) if read_attention(checkpoint.path) == "blocks" else None
    return Asked(checkpoint, prompts, FeatureStore(checkpoint, paths, features), blocks)


def read_parts(run: RunFolder, dataset: Dataset, split: str, most_queries: int | None = None) -> dict[Key, Part]:
    """Return the parts of a split that have items and queries.

    Args:
        run: holds the identifiers.
        dataset: holds the queries.
        split: "train", "val" or "test".
        most_queries: draw so many queries at random where a direction has more; all by default.
    """
    images, sentences = (read_items(run, dataset, direction, split) for direction in ("t2i", "i2t"))
    wanted = _wanted_images(run, dataset)
    records = [record for record in dataset.split(split) if record.image_id in wanted]
    unreadable = _unreadable(dataset, records, {item.item_id for item in images})
    parts = {}
    for direction, items in (("t2i", images), ("i2t", sentences)):
        queries = draw_queries(read_queries(records, direction, images, sentences, unreadable), most_queries)
        if items and queries.contents:
            parts[Key(split, direction)] = Part({item.item_id: item for item in items}, queries)
    return parts


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


def fold_parts(parts: Mapping[Key, Part], num_folds: int) -> dict[Key, Part]:
    """Cut the parts of a split into folds of its images, each with its own items and queries.

    Returns:
        (fold name, direction) -> part; a direction without a query in a fold has none.
    """
    images = dict.fromkeys(
        [image_of(key.direction, *query) for key, part in parts.items() for query in part.queries.right.items()]
        + [item.image_id for part in parts.values() for item in part.items.values()]
    )
    folds = {}
    for number, chosen in enumerate(assign_folds(list(images), num_folds), start=1):
        members = set(chosen)
        for key, part in parts.items():
            items = {item_id: item for item_id, item in part.items.items() if item.image_id in members}
            own = [query for query in part.queries.right.items() if image_of(key.direction, *query) in members]
            queries = part.queries.only(query for query, _ in own)
            if items and queries.contents:
                folds[Key(f"{key.split} fold {number}", key.direction)] = Part(items, queries)
    return folds


def draw_queries(queries: Queries, most: int | None, seed: int = 0) -> Queries:
    """Return the queries, or so many of them drawn at random, in their order."""
    if most is None or most >= len(queries.right):
        return queries
    chosen = set(random.Random(seed).sample(sorted(queries.right), most))
    return queries.only(query for query in queries.right if query in chosen)


def generate_hits(
    asked: Asked, key: Key, part: Part, place: Workplace, *, num_beams: int, batch_size: int, engine: Engine
) -> dict[str, list[GeneratedHit]]:
    """Return what is asked -> the items the generator finds, best first."""
    corpus = build_corpus(asked.checkpoint, asked.prompts, key.direction, list(part.items.values()))

    def work(queries: list[str]) -> list[Any]:
        return generate_chunk(asked, key.direction, queries, corpus, num_beams, batch_size, engine)

    contents = part.contents
    if key.direction == "i2t":
        asked.features.add(contents, progress=place.progress)
    rows = place.run(f"generate {key.direction} {key.split}", contents, QUERIES_A_CHUNK, work, "query")
    return {content: [GeneratedHit(*hit) for hit in hits] for content, hits in zip(contents, rows, strict=True)}


def generate_chunk(
    asked: Asked, direction: str, queries: list[str], corpus: Corpus, num_beams: int, batch_size: int, engine: Engine
) -> list[list[GeneratedHit]]:
    """Search for one chunk of queries."""
    features = asked.features.of(queries) if direction == "i2t" else {}
    return generate(
        asked.checkpoint,
        asked.prompts,
        direction,
        queries,
        features,
        corpus,
        num_beams=num_beams,
        batch_size=batch_size,
        engine=engine,
    )


def generate_freely(
    asked: Asked, key: Key, part: Part, place: Workplace, *, num_beams: int, batch_size: int
) -> dict[str, list[GeneratedHit]]:
    """Return what is asked -> the items whose identifiers a search of the whole vocabulary happens to write."""
    corpus = build_corpus(asked.checkpoint, asked.prompts, key.direction, list(part.items.values()))

    def work(queries: list[str]) -> list[Any]:
        features = asked.features.of(queries) if key.direction == "i2t" else {}
        inputs = query_inputs(asked.checkpoint, asked.prompts, key.direction, queries, features)
        return generate_without_trie(asked.checkpoint, inputs, corpus, num_beams=num_beams)

    contents = part.contents
    if key.direction == "i2t":
        asked.features.add(contents, progress=place.progress)
    rows = place.run(f"without trie {key.direction} {key.split}", contents, batch_size, work, "query")
    return {content: [GeneratedHit(*hit) for hit in hits] for content, hits in zip(contents, rows, strict=True)}


def make_shortlists(part: Part, hits: Mapping[str, Sequence[GeneratedHit]], num_candidates: int) -> list[Shortlist]:
    """Return the shortlist of everything that is asked, in the order of `part.contents`."""
    return [make_shortlist(content, hits[content], part.items, num_candidates) for content in part.contents]


def verify_by_letter(
    verifier: VerifierName,
    asked: Asked,
    key: Key,
    shortlists: Sequence[Shortlist],
    place: Workplace,
    num_shifts: int,
) -> list[list[float]]:
    """Return the score of every candidate by the listwise or the pointwise verifier."""
    asked.features.add(images_of(key.direction, shortlists), progress=place.progress)

    def work(chunk: list[Shortlist]) -> list[Any]:
        features = asked.features.of(images_of(key.direction, chunk))
        return verifier_scores(
            verifier,
            asked.checkpoint,
            asked.prompts,
            key.direction,
            chunk,
            features,
            num_shifts=num_shifts,
            blocks=asked.blocks,
        )

    return place.run(f"{verifier} {key.direction} {key.split}", shortlists, QUERIES_A_CHUNK, work, "query")


def images_of(direction: str, shortlists: Iterable[Shortlist]) -> list[str]:
    """Return the ids of the images that a verifier is shown: the candidates (t2i) or the queries (i2t)."""
    if direction == "i2t":
        return [own.query for own in shortlists]
    return [item.item_id for own in shortlists for item in own.items]


def verify_by_likelihood(
    asked: Asked, shortlists: Mapping[Key, Sequence[Shortlist]], place: Workplace
) -> dict[Key, list[list[float]]]:
    """Return the likelihood verifier's score of every candidate of all parts; no pair is scored twice."""
    pairs: dict[str, dict[str, None]] = {}
    for key, own in shortlists.items():
        for image_id, texts in pairs_to_score(key.direction, own).items():
            pairs.setdefault(image_id, {}).update(texts)
    tasks = [(image_id, sorted(texts)) for image_id, texts in sorted(pairs.items())]
    sentences = sorted({text for _, texts in tasks for text in texts})

    asked.features.add(pairs, progress=place.progress)

    def given_image(chunk: list[tuple[str, list[str]]]) -> list[Any]:
        features = asked.features.of(image_id for image_id, _ in chunk)
        return given_image_log_probabilities(asked.checkpoint, asked.prompts, chunk, features)

    def without_image(chunk: list[str]) -> list[Any]:
        return sentence_log_probabilities(asked.checkpoint, asked.prompts, chunk)

    given = place.run("likelihood with the image", tasks, IMAGES_A_CHUNK, given_image, "image")
    alone = place.run("likelihood without", sentences, SENTENCES_A_CHUNK, without_image, "sentence")
    conditional = {
        (image_id, text): score
        for (image_id, texts), scores in zip(tasks, given, strict=True)
        for text, score in zip(texts, scores, strict=True)
    }
    marginal = dict(zip(sentences, alone, strict=True))
    return {key: combine_likelihoods(key.direction, own, conditional, marginal) for key, own in shortlists.items()}
