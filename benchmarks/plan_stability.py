"""Stability of a plan: how far the best items by a set head, and a search's hits, outlast another wording.

    python -m benchmarks.plan_stability --run runs/systems/seed-0/comgtir
    python -m benchmarks.plan_stability --run RUN --num-images 50 --json stability.json --table stability.md

phi is the score that the set head of a run gives every item before the first token is written (ComGTIR), and the guide
`set` looks ahead by it. A search that plans this way is only as steady as its plan: a reproduction of PAG (arXiv
2604.23396) found plans to change with typos and wording. Test images are drawn, and the best N images by phi, from the
whole test split, are compared for

two sentences          a sentence of the image, and another one of the same image
one typo               the sentence, and the same with a letter left out of one word of five letters or more
different images       the sentence, and one of another image: what sentences of this dataset have in common anyway

N is 10, and 100 or a third of the items where there are fewer than 300. The same for the ten best hits of the beam
search, by log p alone, and with the guide at the weight of the run's evaluation where it had one. "ours" is the mean
overlap in percent, the peer that of different images; brackets are 95 % bootstrap intervals over images. Items of equal
phi stay in the order of the dataset. In float32, so that padding changes nothing. Nothing is written into the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.overlaps import measure, rows_of, table_of
from benchmarks.report import publish
from benchmarks.wordings import draw_wordings
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.dataset import Dataset, load_dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import read_items
from semcore.data.run_folder import RunFolder
from semcore.decoding.cached_model import read_prompts
from semcore.models.inference import load_for_inference
from semcore.models.run_checkpoints import generator_of
from semcore.models.session import ModelSession, load_session
from semcore.retrieval.corpus import Corpus, build_corpus
from semcore.retrieval.dense import DenseEncoder
from semcore.retrieval.generator import GuideOf, generate, query_inputs
from semcore.retrieval.guides import GuideSettings
from semcore.retrieval.open_guide import GuideMaker
from semcore.retrieval.search_settings import search_settings_of
from semcore.retrieval.set_guide import SetGuide, mean_or_sum
from semcore.runtime.files import atomic_text

FEW, MANY = 10, 100
BATCH = 32

Rank = Callable[[Sequence[str]], list[list[str]]]
"""Returns the ids of the best items for each of some sentences, the best first."""


@dataclass
class Settings:
    """What is reworded."""

    run: Path
    """A run whose generator has a set head."""
    data: Path | None = None
    """Where the dataset is now, should it have moved."""
    num_images: int = 300
    """Test images whose sentences are compared."""
    num_beams: int = 20
    """Width of the beam."""
    seed: int = 0
    """Of the draw of images, sentences and typos."""
    json: Path | None = None
    """Save the rows in this file."""
    table: Path | None = None
    """Save the table in this file, as markdown."""

    def __post_init__(self) -> None:
        require_minimum(2, self, "num_images")
        require_minimum(FEW, self, "num_beams")
        require_minimum(0, self, "seed")


def main(settings: Settings) -> None:
    """Rank the items for all wordings, and publish how far the best ones agree."""
    run = RunFolder(settings.run)
    dataset = load_dataset(settings.data or run.data_folder())
    session, corpus = open_corpus(run, dataset)
    records = [record for record in dataset.split("test") if record.image_id in corpus.items]
    wordings = draw_wordings(records, settings.num_images, settings.seed)
    texts = {text for own in wordings for text in (own.sentence, *own.others.values())}
    queries = sorted(texts, key=lambda text: (len(text), text))  # those of similar length are searched together
    measures = []
    for name, (rank, sizes) in rankers(settings, run, session, corpus).items():
        best = dict(zip(queries, rank(queries), strict=True))
        measures += [measure(f"{name}, best {size}", wordings, best, size) for size in sizes]
    publish(
        [row for own in measures for row in rows_of(own)], settings.json,
        num_images=len(wordings), num_items=len(corpus.items), num_beams=settings.num_beams, seed=settings.seed,
    )  # fmt: skip
    if settings.table is not None:
        with atomic_text(settings.table) as handle:
            handle.write(table_of(measures, len(wordings), len(corpus.items)))


def open_corpus(run: RunFolder, dataset: Dataset) -> tuple[ModelSession, Corpus]:
    """Load the generator in float32, and index the test images."""
    session = load_session(load_for_inference(generator_of(run), dtype="float32"), dataset, None)
    return session, build_corpus(session, Direction.T2I, read_items(run, dataset, Direction.T2I, "test"))


def rankers(
    settings: Settings, run: RunFolder, session: ModelSession, corpus: Corpus
) -> dict[str, tuple[Rank, list[int]]]:
    """Return what finds items, by name, and how many of them count.

    Raises:
        UserError: the generator has no set head.
    """
    evaluated = search_settings_of(run, "semcore").guide
    asked = evaluated if evaluated.kind == "set" else GuideSettings(kind="set")
    guide = GuideMaker(asked, run, session, _no_encoder).make(Direction.T2I, corpus)
    assert isinstance(guide, SetGuide)
    many = min(MANY, max(1, len(corpus.items) // 3))

    def search(own: GuideOf | None) -> Rank:
        def rank(queries: Sequence[str]) -> list[list[str]]:
            found = generate(session, Direction.T2I, queries, corpus, num_beams=settings.num_beams, guide=own)
            return [[hit.item_id for hit in hits] for hits in found]

        return rank

    ranked = {
        "phi": (lambda queries: rank_by_phi(session, guide, list(corpus.items), queries), [FEW, many]),
        "beam search": (search(None), [FEW]),
    }
    if weight := asked.weight(Direction.T2I):
        ranked["guided beam search"] = (search(lambda queries: guide.bonus(queries, weight)), [FEW])
    return ranked


@torch.inference_mode()
def rank_by_phi(
    session: ModelSession, guide: SetGuide, item_ids: Sequence[str], queries: Sequence[str]
) -> list[list[str]]:
    """Return all items for each sentence, that of the largest phi first.

    Args:
        session: the generator.
        guide: of the corpus.
        item_ids: of its items, in its order.
        queries: sentences.
    """
    ranked = []
    for start in range(0, len(queries), BATCH):
        inputs = query_inputs(session, Direction.T2I, queries[start : start + BATCH])
        prompts = read_prompts(session.checkpoint.model, inputs, keep_hidden=True)
        phi = mean_or_sum(guide.weigh(prompts).float(), guide.units.to(prompts.mask.device))
        order = phi.argsort(dim=1, descending=True, stable=True).tolist()
        ranked += [[item_ids[place] for place in own] for own in order]
    return ranked


def _no_encoder() -> DenseEncoder:
    raise ValueError("a set head reads no vectors")


if __name__ == "__main__":
    run_command(main, Settings)
