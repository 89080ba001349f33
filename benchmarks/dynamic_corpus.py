"""A corpus that grows: a model trained on the first items, with the others added later, beside one trained on all.

    python -m benchmarks.dynamic_corpus --out runs/dynamic --json benchmarks/results/dynamic_corpus.json
    python -m benchmarks.dynamic_corpus --out runs/quick --num-items 40 --max-steps 2

What is in OUT already is not made again. The items are drawn scenes. The first run is trained on 60 % of them, and gets
the others in four batches by `semcore.retrieval.corpus_updates`, without training; the second is trained on all, and
loses the later batches one by one, so that both search the same items after each. "ours" is the first run, the peer
the second. A text query is a sentence that neither has seen, one an image; an image query is the image itself, which a
model has seen if it was trained on it. "old" are queries for the first 60 %, "new" those for what was added up to then.
After each batch it is checked that no identifier that was there has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Row, higher_is_better, publish
from data_prep import make_scenes
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.corpus_changes import read_changes
from semcore.data.dataset import Dataset, ImageRecord, load_dataset
from semcore.data.directions import Direction
from semcore.data.new_images import NewImage
from semcore.data.run_folder import RunFolder
from semcore.data.subsets import spread
from semcore.evaluation.metrics import retrieval_metrics
from semcore.retrieval.corpus import searched_items
from semcore.retrieval.corpus_updates import add_images, remove_items
from semcore.retrieval.item_maker import ItemMaker
from semcore.retrieval.retriever import Retriever
from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text, write_json, write_jsonl
from semcore.runtime.markdown_tables import markdown_table
from semcore.runtime.packaged_files import asset_folder, resource_folder

METRICS = ("R@1", "R@5", "R@10")
GROUPS = ("old", "new")
TOP_K = 10
QUERIES_AT_ONCE = 64
# What is kept of an evaluation is the prior's weight.
PRIOR_ONLY = (
    "--verifier", "none", "--ablations", "false", "--num-retention-queries", "0", "--num-exhaustive-queries", "0",
    "--num-no-match-queries", "0",
)  # fmt: skip


@dataclass
class Settings:
    """How large the corpus is."""

    out: Path
    """Folder of the scenes and of the two runs."""
    num_items: int = 1000
    """Images that are searched in the end, each with four sentences that are searched and one that is a query."""
    first_percent: int = 60  # as in studies of dynamic corpora
    """How many of them the first run is trained on."""
    num_batches: int = 4
    """In how many batches it gets the others."""
    held_out: int = 100
    """Further images of val and of test; the prior's weight is fitted on val, and all of them are searched too."""
    num_queries: int | None = None
    """Measure with so many images of each group, evenly spread, as queries and as what is asked for; all by default."""
    max_steps: int = -1
    """Steps of each training; -1 for the epochs of scenes.yaml."""
    seed: int = 0
    """Of the scenes, clusters and trainings."""
    json: Path | None = None
    """File to save the rows in."""
    table: Path | None = None
    """File to write the recalls into as tables, in markdown."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "num_items", "num_batches", "held_out", "num_queries")
        if not 0 < self.first_percent < 100:
            raise UserError(f"--first-percent must be from 1 to 99, found {self.first_percent}")


class Parts(NamedTuple):
    """The images by when they come: those of the first training, and the batches that follow."""

    first: Sequence[ImageRecord]
    batches: Sequence[Sequence[ImageRecord]]


def main(settings: Settings) -> None:
    """Train the two runs, let the one grow and the other shrink, and publish the rows."""
    scenes = _draw(settings)
    parts = split_parts(scenes.split("train"), settings.first_percent, settings.num_batches)
    others = [*scenes.split("val"), *scenes.split("test")]
    everything = [*parts.first, *(record for batch in parts.batches for record in batch)]
    runs = [
        _train(settings, scenes, name, [*records, *others])
        for name, records in (("first", parts.first), ("all", everything))
    ]
    grown, seconds = _grow(runs[0], scenes, parts, settings.num_queries)
    shrunk = _shrink(runs[1], scenes, parts, settings.num_queries)
    rows = [
        higher_is_better(f"{name}, {metric}", own[metric], shrunk[name][metric], "percent", _note(own))
        for name, own in grown.items()
        for metric in METRICS
    ]
    publish(rows + seconds, settings.json)
    if settings.table is not None:
        with atomic_text(settings.table) as handle:
            handle.write(tables_of(grown, shrunk, settings.num_batches))


def tables_of(
    grown: Mapping[str, Mapping[str, float]], shrunk: Mapping[str, Mapping[str, float]], num_batches: int
) -> str:
    """Return a table a direction in markdown: a line after each batch, the run that grows / the one trained on all."""
    tables = []
    for direction in Direction:
        lines = []
        for number in range(num_batches + 1):
            pairs = [(grown.get(name), shrunk.get(name)) for name in _names(direction, number, num_batches)]
            cells = [
                f"{one[m]:.1f} / {other[m]:.1f}" if one and other else "–" for one, other in pairs for m in METRICS
            ]
            lines.append((f"{number}", f"{max(own['num_items'] for own, _ in pairs if own):,.0f}", *cells))
        header = ("batches", "items", *(f"{group}, {metric}" for group in GROUPS for metric in METRICS))
        tables.append(f"{direction.label}, %:\n\n{markdown_table(header, lines, num_texts=1)}\n")
    return "\n".join(tables)


def split_parts(images: Sequence[ImageRecord], first_percent: int, num_batches: int) -> Parts:
    """Return the first images, and the others in batches of equal size, the last ones one smaller where need be.

    >>> parts = split_parts(range(10), 60, 3)
    >>> parts.first, parts.batches
    ([0, 1, 2, 3, 4, 5], [[6, 7], [8], [9]])
    """
    num_first = len(images) * first_percent // 100
    rest = list(images[num_first:])
    ends = [len(rest) * number // num_batches for number in range(num_batches, -1, -1)]
    sizes = [end - start for start, end in zip(ends[1:], ends[:-1], strict=True)]
    batches, start = [], 0
    for size in sorted(sizes, reverse=True):
        batches.append(rest[start : start + size])
        start += size
    return Parts(list(images[:num_first]), batches)


def query_of(record: ImageRecord) -> str:
    """Return the sentence of an image that is a query: its last one, which no run has."""
    return record.sentences[-1].text


def without_query(record: ImageRecord) -> ImageRecord:
    """Return an image without the sentence that is a query."""
    return replace(record, sentences=record.sentences[:-1])


def _draw(settings: Settings) -> Dataset:
    folder = settings.out / "scenes"
    if not folder.exists():
        counts = {"train": settings.num_items, "val": settings.held_out, "test": settings.held_out}
        make_scenes.main(make_scenes.Settings(folder, **counts, seed=settings.seed))
    return load_dataset(folder)


def _train(settings: Settings, scenes: Dataset, name: str, records: Sequence[ImageRecord]) -> Path:
    """Make a run of some of the images, with the stages of the quickstart up to the measured generator."""
    data, run = settings.out / f"{name}-data", settings.out / name
    if not data.exists():
        _write_dataset(scenes, data, records)
    shutil.rmtree(run / "corpus", ignore_errors=True)  # of an earlier measurement
    where = [
        "--config",
        str(resource_folder("recipes") / "configs" / "scenes.yaml"),
        "--data",
        str(data),
        "--run",
        str(run),
    ]
    base, seed = str(asset_folder("scenes_base")), str(settings.seed)
    recipe = str(resource_folder("recipes") / "train_identifier.py")
    steps = [] if settings.max_steps < 0 else ["--training.max_steps", str(settings.max_steps)]
    for command in (
        ["-m", "data_prep.caption", *where, "--model", base],
        ["-m", "data_prep.identifiers", *where, "--seed", seed],
        [recipe, *where, "--model.base", base, "--training.seed", seed, *steps],
        ["-m", "semcore.commands.cli", "evaluate", *where, *PRIOR_ONLY],
    ):
        subprocess.run([sys.executable, *command], check=True)
    return run


def _write_dataset(scenes: Dataset, folder: Path, records: Sequence[ImageRecord]) -> None:
    (folder / "images").mkdir(parents=True)
    rows = []
    for record in records:
        os.link(scenes.image_path(record), folder / record.file_name)
        kept = without_query(record) if record.split == "train" else record
        sentences = [{"sentence_id": own.sentence_id, "text": own.text} for own in kept.sentences]
        rows.append(
            {"image_id": record.image_id, "file_name": record.file_name, "split": record.split, "sentences": sentences}
        )
    write_jsonl(folder / "metadata.jsonl", rows)
    write_json(folder / "dataset.json", {"name": "scenes"})


def _grow(
    run: Path, scenes: Dataset, parts: Parts, num_queries: int | None = None
) -> tuple[dict[str, dict[str, float]], list[Row]]:
    """Return the scores of the run before and after each addition, and the seconds that an image took."""
    maker = ItemMaker.open(run)
    retriever = _retriever(run)
    maker.given_generator = retriever.generator
    scores = _measure(retriever, scenes, parts, 0, num_queries)
    rows = []
    for number, batch in enumerate(parts.batches, start=1):
        before = _identifiers(run, maker.dataset)
        started = time.perf_counter()
        images = [
            NewImage(own.image_id, scenes.image_path(own), without_query(own).sentences, source_file=own.source_file)
            for own in batch
        ]
        done = add_images(maker, images)
        took = time.perf_counter() - started
        if [own.image_id for own in done.added] != [own.image_id for own in batch]:
            raise UserError(f"{len(done.left_out)} images of batch {number} were left out: {done.left_out}")
        after = _identifiers(run, maker.dataset)
        if any(after[item] != own for item, own in before.items()):
            raise UserError(f"batch {number} has changed an identifier that was there before")
        rows.append(
            Row(f"addition of batch {number}, per image", took / len(batch), None, None, "s", f"{len(batch)} images")
        )
        retriever = retriever.refreshed()
        scores |= _measure(retriever, scenes, parts, number, num_queries)
    return scores, rows


def _shrink(run: Path, scenes: Dataset, parts: Parts, num_queries: int | None = None) -> dict[str, dict[str, float]]:
    """Return the scores of the run with all items, and after each removal of the last batch."""
    maker = ItemMaker.open(run)
    retriever = _retriever(run)
    maker.given_generator = retriever.generator
    scores: dict[str, dict[str, float]] = {}
    for number in range(len(parts.batches), 0, -1):
        scores |= _measure(retriever, scenes, parts, number, num_queries)
        remove_items(maker, [record.image_id for record in parts.batches[number - 1]])
        retriever = retriever.refreshed()
    return scores | _measure(retriever, scenes, parts, 0, num_queries)


def _retriever(run: Path) -> Retriever:
    return Retriever.from_run(run, verifier="none")


def _identifiers(run: Path, dataset: Dataset) -> dict[str, str]:
    folder = RunFolder(run)
    changes = read_changes(folder)
    items = (item for d in Direction for item in searched_items(folder, dataset, d, None, changes))
    return {item.item_id: item.identifier for item in items}


def _measure(
    retriever: Retriever, scenes: Dataset, parts: Parts, number: int, num_queries: int | None = None
) -> dict[str, dict[str, float]]:
    """Return the scores of both directions after so many batches, of the first images and of those added."""
    groups = (parts.first, [record for batch in parts.batches[:number] for record in batch])
    return {
        name: _score(retriever, scenes, direction, list(spread(records, num_queries or len(records))))
        for direction in Direction
        for name, records in zip(_names(direction, number, len(parts.batches)), groups, strict=True)
        if records
    }


def _names(direction: Direction, number: int, num_batches: int) -> list[str]:
    """Return the names of the scores of the first images, and of those added."""
    return [f"{direction.label}, after {number} of {num_batches} batches, {group} items" for group in GROUPS]


def _score(
    retriever: Retriever, scenes: Dataset, direction: Direction, records: Sequence[ImageRecord]
) -> dict[str, float]:
    found: dict[str, list[str]] = {}
    for batch in _batches(records):
        if direction.items_are_images:
            hits = retriever.search(text=[query_of(record) for record in batch], top_k=TOP_K)
        else:
            hits = retriever.search(image=[scenes.image_path(record) for record in batch], top_k=TOP_K)
        found |= {r.image_id: [hit.item_id for hit in own] for r, own in zip(batch, hits, strict=True)}
    relevant = {
        record.image_id: {record.image_id}
        if direction.items_are_images
        else {sentence.sentence_id for sentence in without_query(record).sentences}
        for record in records
    }
    return retrieval_metrics(found, relevant, len(retriever._corpus(direction).items))


def _batches(records: Sequence[ImageRecord]) -> Iterable[Sequence[ImageRecord]]:
    return (records[start : start + QUERIES_AT_ONCE] for start in range(0, len(records), QUERIES_AT_ONCE))


def _note(scores: dict[str, float]) -> str:
    return f"{scores['num_queries']:.0f} queries, {scores['num_items']:.0f} items"


if __name__ == "__main__":
    run_command(main, Settings)
