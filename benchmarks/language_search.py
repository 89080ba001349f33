"""Search by a trained run on captions alone: what beams find, each item's prior, and what taking it off is worth.

Scores are relative to the tokens that occur in identifiers (`normalization="identifiers"`): over Gemma's 262,000
tokens the output head would take most of a CPU's time.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import draw_queries, read_items, read_queries
from semcore.data.run_folder import RunFolder
from semcore.decoding import constrained_beam_search, estimate_priors
from semcore.decoding.scoring import Normalization
from semcore.evaluation.prior_weights import fit_weight
from semcore.models.inference import load_for_inference
from semcore.models.prompts import load_prompts
from semcore.models.session import ModelSession
from semcore.models.visual_features import FeatureStore
from semcore.retrieval.batch import SplitView
from semcore.retrieval.corpus import Corpus, build_corpus
from semcore.retrieval.generator import query_inputs
from semcore.runtime.files import read_json, write_json
from semcore.runtime.resumable import in_chunks

QUERIES_PER_BATCH, QUERIES_PER_CHUNK = 16, 64

Found = list[tuple[str, float]]
"""Identifier and score, best first. An identifier is named by its item; further ones of an item are `ITEM (2)`."""


@dataclass
class LanguageSearch:
    """A trained run that is asked; what is done once is kept in RUN/search.

    Attributes:
        run: the run folder.
        dataset: its dataset.
        num_queries: split -> queries drawn from it.
        prompts_folder: the prompts that the model was trained with.
    """

    run: RunFolder
    dataset: Dataset
    num_queries: dict[str, int]
    prompts_folder: Path | None = None

    @cached_property
    def session(self) -> ModelSession:
        """Load the trained model when it is first needed, with the prompts it was trained with."""
        checkpoint = load_for_inference(self.run / "identifier_model")
        prompts = load_prompts(self.prompts_folder, special_tokens=checkpoint.special_tokens)
        return ModelSession(checkpoint, prompts, FeatureStore(checkpoint, self.dataset.image_paths, None))

    def view(self, split: str) -> SplitView:
        """Return the items of a split and the queries drawn from it."""
        items = read_items(self.run, self.dataset, Direction.T2I, split)
        queries = read_queries(self.dataset.split(split), Direction.T2I, items, [])
        return SplitView({item.item_id: item for item in items}, draw_queries(queries, self.num_queries[split]))

    def corpus(self, split: str) -> Corpus:
        """Index the items of a split."""
        return build_corpus(self.session, Direction.T2I, list(self.view(split).items.values()))

    def names(self, corpus: Corpus) -> dict[tuple[int, ...], list[str]]:
        """Return identifier -> the name it has for each of its items."""
        counts: Counter[str] = Counter()
        names: dict[tuple[int, ...], list[str]] = {}
        for sequence in map(tuple, corpus.index.sequences()):
            counts.update(items := corpus.index.items(sequence))
            names[sequence] = [item if counts[item] == 1 else f"{item} ({counts[item]})" for item in items]
        return names

    def find(self, split: str, num_beams: int, normalization: Normalization = "identifiers") -> dict[str, Found]:
        """Return query id -> what beams find, and note the seconds in RUN/search/seconds.json."""
        view = self.view(split)
        texts = view.unique_queries

        def work(chunk: list[str]) -> list[Any]:
            corpus = self.corpus(split)
            names = self.names(corpus)
            return [
                found
                for batch in _batches(chunk)
                for found in self._search(batch, corpus, names, num_beams, normalization)
            ]

        name = f"{split} {len(texts)} queries {num_beams} beams {normalization}"
        done = in_chunks(self.run / "search", name, texts, QUERIES_PER_CHUNK, work, progress=True)
        self._note(name, done.seconds / len(texts))
        by_text = dict(zip(texts, done.rows, strict=True))
        return {
            query: [(item, score) for item, score in by_text[text]] for query, text in view.queries.contents.items()
        }

    def _search(
        self,
        texts: Sequence[str],
        corpus: Corpus,
        names: dict[tuple[int, ...], list[str]],
        num_beams: int,
        normalization: Normalization,
    ) -> list[Found]:
        inputs = query_inputs(self.session, Direction.T2I, texts)
        result = constrained_beam_search(self.session.checkpoint.model, inputs, corpus.index, num_beams, normalization)
        return [
            [(name, score) for sequence, score in zip(sequences, scores, strict=False) for name in names[sequence]][
                :num_beams
            ]
            for sequences, scores in zip(result.sequences, result.scores.tolist(), strict=True)
        ]

    def priors(self, split: str, num_queries: int, seed: int = 0) -> dict[str, float]:
        """Return name of an identifier -> log p(identifier), from queries drawn from those that were trained on."""
        path = self.run / "search" / f"priors {split} {num_queries}.json"
        if path.exists():
            return read_json(path)
        texts = [sentence.text for record in self.dataset.split("train") for sentence in record.sentences]
        drawn = sorted(random.Random(seed).sample(texts, min(num_queries, len(texts))), key=len)
        corpus = self.corpus(split)
        batches = (query_inputs(self.session, Direction.T2I, batch) for batch in _batches(drawn, 4))
        with torch.inference_mode():
            priors = estimate_priors(self.session.checkpoint.model, batches, corpus.index, "identifiers")
        names = self.names(corpus)
        values = {name: float(own[-1]) for sequence, own in priors.items() for name in names[sequence]}
        write_json(path, values)
        return values

    def seconds(self) -> dict[str, float]:
        """Return seconds a query of every search."""
        path = self.run / "search" / "seconds.json"
        return read_json(path) if path.exists() else {}

    def _note(self, name: str, seconds: float) -> None:
        write_json(self.run / "search" / "seconds.json", {**self.seconds(), name: round(seconds, 3)})


def corrected(found: Found, priors: dict[str, float], weight: float) -> Found:
    """Take a share of the prior off and order anew; of equal ones the first stays first."""
    scored = [(name, score - weight * priors[name]) for name, score in found]
    return sorted(scored, key=lambda pair: -pair[1])


def weight_on(found: dict[str, Found], right: dict[str, set[str]], priors: dict[str, float]) -> float:
    """Return how much of the prior the queries of val want taken off what was found."""
    rows = [found[query] for query in right]
    return fit_weight(
        [[score for _, score in row] for row in rows],
        [[priors[name] for name, _ in row] for row in rows],
        [[item_of(name) in right[query] for name, _ in found[query]] for query in right],
    )


def first_ranks(found: dict[str, Found], right: dict[str, set[str]]) -> list[int | None]:
    """Return the rank of the first right item of every query, in the order of the queries' names.

    An item counts once, by the best of its identifiers.
    """
    items = {query: list(dict.fromkeys(item_of(name) for name, _ in own)) for query, own in found.items()}
    return [
        next((rank for rank, item in enumerate(items[query], 1) if item in right[query]), None)
        for query in sorted(right)
    ]


def item_of(name: str) -> str:
    """Return the item that an identifier's name stands for."""
    return name.split(" (")[0]


def _batches(texts: Sequence[str], size: int = QUERIES_PER_BATCH) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]
