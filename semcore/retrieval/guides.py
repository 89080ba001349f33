"""Guides of a search by name: what is known of a query's items before the first token is written.

    words    the keywords of an item that occur in the query, the rare ones more; nothing is trained
    dense    the cosine of the query's and the item's vectors
    set      the set head of the generator, which weighs the units of identifiers for a query (ComGTIR)

Shapes: Q queries, N items, U units of the set vocabulary, K units of an item at most, d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from scipy import sparse

from semcore.data.directions import Direction
from semcore.data.identifier_files import read_identifiers
from semcore.data.items_and_queries import Item
from semcore.data.run_folder import RunFolder
from semcore.decoding.bonus import Bonus, BonusOf
from semcore.decoding.guides import GuideMode, look_ahead
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.potentials import ItemSequences, best_by_sequence, sequences_of_items
from semcore.identifiers.words import word_vectorizer
from semcore.retrieval.dense import SENTENCE_ENCODER, DenseEncoder
from semcore.runtime.errors import UserError

GuideKind = Literal["none", "words", "dense", "set"]
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Those that a fit chooses from, times the scale of a guide's scores."""
SCALES: Mapping[str, float] = {"words": 1.0, "dense": 10.0, "set": 1.0}
"""Kind -> what its scores are multiplied by, so that weights of one are of the order of log-probabilities."""


@dataclass(frozen=True)
class GuideSettings:
    """Which guide a search has.

    Attributes:
        kind: "none" for none.
        mode: how it enters the search; words and dense know whole items only, which is "lookahead".
        model: of the vectors, `SENTENCE_ENCODER` or a CLIP or SigLIP checkpoint.
        best: how many identifiers the released form looks at.
        weights: direction -> the weight; one that is left out has 0.
    """

    kind: GuideKind = "none"
    mode: GuideMode = "lookahead"
    model: str = SENTENCE_ENCODER
    best: int = 500
    weights: Mapping[str, float] = field(default_factory=dict)

    def weight(self, direction: Direction) -> float:
        """Return a direction's weight."""
        return self.weights.get(str(direction), 0.0)


class Guide(Protocol):
    """What guides the search of one corpus."""

    def bonus(self, queries: Sequence[str], weight: float) -> Bonus | BonusOf:
        """Return what a search of these queries adds to its scores.

        Args:
            queries: sentences or image ids, a batch of them.
            weight: of the guide, 0 or more.
        """


@dataclass(frozen=True)
class ItemGuide:
    """A guide by a score of every item.

    Attributes:
        index: the corpus's.
        sequences: of the items.
        score: queries -> the items' scores (Q, N).
        scale: what scores are multiplied by.
    """

    index: IdentifierIndex
    sequences: ItemSequences
    score: Callable[[Sequence[str]], np.ndarray]
    scale: float = 1.0

    def bonus(self, queries: Sequence[str], weight: float) -> Bonus:
        """Return the look-ahead to the best item below each prefix."""
        scores = torch.from_numpy(np.ascontiguousarray(self.score(queries), dtype=np.float32)) * self.scale
        return look_ahead(self.index, best_by_sequence(self.index, self.sequences, scores), weight)


def item_guide(
    kind: str, index: IdentifierIndex, items: Sequence[Item], score: Callable[[Sequence[str]], np.ndarray]
) -> ItemGuide:
    """Return a guide by the scores of some items (Q, N); the index has these N items and no others."""
    return ItemGuide(index, sequences_of_items(index, [item.item_id for item in items]), score, SCALES[kind])


def dense_scores(
    encoder: DenseEncoder, direction: Direction, vectors: np.ndarray, kept: dict[str, np.ndarray] | None = None
) -> Callable[[Sequence[str]], np.ndarray]:
    """Return what scores items by the cosine of their vectors with a query's.

    Args:
        encoder: encodes queries.
        direction: tells whether queries are sentences or image ids.
        vectors: of the items (N, d).
        kept: query -> its vector (d,), where queries are asked more than once.
    """

    def score(queries: Sequence[str]) -> np.ndarray:
        known = {} if kept is None else kept
        new = [query for query in dict.fromkeys(queries) if query not in known]
        if new:
            known.update(zip(new, encoder.queries(direction, new), strict=True))
        return np.stack([known[query] for query in queries]) @ vectors.T

    return score


def word_scores(
    items: Sequence[Item], rarity: Mapping[str, float], text_of: Callable[[str], str]
) -> Callable[[Sequence[str]], np.ndarray]:
    """Return what scores items by their keywords that occur in a query: queries -> scores (Q, N).

    The score is the sum of the rarities of these keywords, divided by the number of the item's units, the cluster
    among them, since items have unequally many.

    Args:
        items: N of them.
        rarity: keyword -> its inverse document frequency, from `keyword_rarity`.
        text_of: query -> its text, of an image its caption.
    """
    words_of = word_vectorizer(stop_words=None).build_analyzer()
    columns = {word: place for place, word in enumerate(sorted({word for item in items for word in _words(item)}))}
    rows, places, values = [], [], []
    for row, item in enumerate(items):
        own = _words(item)
        for word in set(own):
            rows.append(row)
            places.append(columns[word])
            values.append(rarity.get(word, max(rarity.values(), default=1.0)) / (len(own) + 1))
    weights = sparse.csr_matrix((values, (rows, places)), shape=(len(items), len(columns)))

    def score(queries: Sequence[str]) -> np.ndarray:
        told = [[columns[word] for word in set(words_of(text_of(query))) if word in columns] for query in queries]
        starts = np.cumsum([0, *map(len, told)])
        flat = [place for own in told for place in own]
        asked = sparse.csr_matrix((np.ones(len(flat)), flat, starts), shape=(len(queries), len(columns)))
        return np.asarray((asked @ weights.T).todense(), dtype=np.float32)

    return score


def keyword_rarity(run: RunFolder, direction: Direction) -> dict[str, float]:
    """Return keyword -> log((1 + n) / (1 + f)) + 1, for f of the n items of the training split with this keyword.

    Raises:
        UserError: the identifiers have no keywords.
    """
    rows = read_identifiers(run / "identifiers", direction, "train")
    counts: dict[str, int] = {}
    for row in rows:
        for word in set(" ".join(row["lexical_id"]).split()):
            counts[word] = counts.get(word, 0) + 1
    if not counts:
        raise UserError(
            f"the guide words reads keywords, and the identifiers of {run.path} have none; choose --guide.kind dense"
        )
    return {word: float(np.log((1 + len(rows)) / (1 + count)) + 1) for word, count in counts.items()}


def _words(item: Item) -> list[str]:
    return item.keywords.split()


def check_guide(kind: str, mode: str, engine: str, constraint: bool) -> None:
    """Refuse a guide that cannot be had.

    Raises:
        UserError: names the options that exclude each other.
    """
    if kind == "none":
        return
    if engine != "semcore" or not constraint:
        raise UserError(
            "--guide.kind needs the beam search of semcore over identifiers: leave --engine and --constraint as they "
            "are, or leave it out"
        )
    if kind != "set" and mode != "lookahead":
        raise UserError(
            f"--guide.mode {mode} adds up weights of tokens, and the guide {kind} knows whole items only: choose "
            "--guide.mode lookahead, or --guide.kind set"
        )
