"""Example queries of the page: sentences and images of the run's own dataset, drawn by seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from semcore.data.dataset import SPLITS, Dataset, ImageRecord
from semcore.data.directions import Direction
from semcore.demo.run_search import RunSearch
from semcore.runtime.text import clean_text

NUM_EXAMPLES = 4
SHORT = 60  # letters that gradio shows of an example


@dataclass(frozen=True)
class Examples:
    """Queries to choose from.

    Attributes:
        sentences: queries of images.
        pictures: files of queries of sentences.
    """

    sentences: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


def choose_examples(search: RunSearch, split: str | None, seed: int = 0) -> Examples:
    """Draw sentences and images of the searched split; where all are searched, of test, else of val, else of train.

    Args:
        search: the run; directions that it cannot search have no examples.
        split: that is searched, None for all.
        seed: of the draw.
    """
    records = _records(search.retriever.dataset, split)
    random.Random(seed).shuffle(records)
    sentences = dict.fromkeys(clean_text(sentence.text) for record in records for sentence in record.sentences[:1])
    chosen = sorted(filter(None, sentences), key=lambda text: len(text) > SHORT)[:NUM_EXAMPLES]
    pictures: list[str] = []
    for record in records:
        if len(pictures) == NUM_EXAMPLES or Direction.I2T in search.refused:
            break
        shown = search.pictures.shown(record.image_id)
        pictures += [] if shown is None else [shown]
    return Examples([] if Direction.T2I in search.refused else chosen, pictures)


def _records(dataset: Dataset, split: str | None) -> list[ImageRecord]:
    for name in (split,) if split else reversed(SPLITS):
        if found := dataset.split(name):
            return list(found)
    return []
