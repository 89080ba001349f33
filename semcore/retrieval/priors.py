"""Priors of a run's identifiers: log p(identifier) over all queries, estimated once and kept.

RUN/priors/KEY.json    direction, queries, and identifier -> log p of each of its prefixes, the whole identifier last

The key is a hash of all that determines an identifier's prior: the model, the direction, the prompt, and how the
queries were drawn. The other items of a corpus do not matter, so that those added later are all that is estimated then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item, draw_queries
from semcore.data.run_folder import RunFolder
from semcore.decoding import estimate_priors
from semcore.decoding.prior_correction import Correction, correction_of
from semcore.models.null_queries import knows_null_queries
from semcore.models.session import ModelSession
from semcore.retrieval.batch import SplitKey, read_split_views
from semcore.retrieval.corpus import Corpus, build_corpus
from semcore.retrieval.generator import null_query_inputs, query_inputs
from semcore.runtime.errors import UserError
from semcore.runtime.files import hash_of, read_json, write_json
from semcore.runtime.fingerprints import fingerprint

logger = logging.getLogger(__name__)
FOLDER = "priors"
IDENTIFIERS_PER_CHUNK = 512
QUERIES_PER_BATCH = 16  # ours: they are read with some hundreds of identifiers' tokens each
DIGITS = 5  # as much as float32 is right to


@dataclass(frozen=True)
class PriorSample:
    """Which training queries a prior is the mean over, unless the model was trained on null queries.

    Attributes:
        num_queries: drawn at random, or all where there are fewer.
        seed: of the draw.
    """

    num_queries: int = 100
    seed: int = 0

    def draw(self, run: RunFolder, dataset: Dataset, direction: Direction) -> tuple[list[str], set[str]]:
        """Return what is asked, in sentences or image ids, and all that could have been drawn."""
        view = read_split_views(run, dataset, "train", directions=[direction]).get(SplitKey("train", direction))
        if view is None:
            return [], set()
        drawn = draw_queries(view.queries, self.num_queries, self.seed)
        return sorted(set(drawn.contents.values()), key=lambda content: (len(content), content)), set(
            view.queries.contents.values()
        )


@dataclass
class Priors:
    """The priors of one direction's identifiers, as far as they are known.

    Attributes:
        session: the generator.
        direction: what it is asked for.
        queries: what the prior is the mean over; empty for the null query.
        path: the file they are kept in; None keeps nothing.
        values: identifier -> log p of each of its prefixes.
    """

    session: ModelSession
    direction: Direction
    queries: list[str]
    path: Path | None
    values: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def open(
        cls, session: ModelSession, direction: Direction, sample: PriorSample, run: RunFolder, dataset: Dataset
    ) -> Priors:
        """Open what a run holds, or begin anew.

        Args:
            session: the generator.
            direction: what it is asked for.
            sample: how queries are drawn.
            run: the run folder.
            dataset: holds the training queries.

        Raises:
            UserError: there is no training query, and the model does not know the empty one.
        """
        empty = knows_null_queries(session.checkpoint.path)
        turn = session.prompts.render(direction.identify_prompt, query="", image="")
        drawn_as = "the null query" if empty else f"{sample.num_queries} queries, seed {sample.seed}"
        key = hash_of(fingerprint(session.checkpoint.path), str(direction), turn, drawn_as)[:32]
        path = run / FOLDER / f"{key}.json"
        known = _read(path)
        if empty:
            return cls(session, direction, [], path, known.values)
        drawn, possible = sample.draw(run, dataset, direction)
        if not drawn:
            raise UserError(
                f"the prior of identifiers needs training queries, and split train of {dataset.folder} has none for "
                f"{direction}: give --prior-weight 0"
            )
        if known.queries and possible.issuperset(known.queries):
            return cls(session, direction, known.queries, path, known.values)
        return cls(session, direction, drawn, path)

    def missing(self, identifiers: Iterable[str]) -> list[str]:
        """Return the identifiers whose prior is not known, each once, sorted, so that prefixes are shared."""
        return sorted(set(identifiers) - self.values.keys())

    def of(self, identifiers: Sequence[str]) -> list[list[float]]:
        """Return log p of the prefixes of some identifiers, estimating what is not known."""
        self.values.update(self._estimated(self.missing(identifiers)))
        return [self.values[identifier] for identifier in identifiers]

    def fill(self, identifiers: Collection[str], progress: Callable[[int], None] = lambda _number: None) -> None:
        """Estimate what is not known of some identifiers, and keep it chunk by chunk.

        Args:
            identifiers: whose priors are wanted.
            progress: is told how many more are done.
        """
        missing = self.missing(identifiers)
        for first in range(0, len(missing), IDENTIFIERS_PER_CHUNK):
            chunk = missing[first : first + IDENTIFIERS_PER_CHUNK]
            self.of(chunk)
            self.save()
            progress(len(chunk))

    def save(self) -> None:
        """Keep what is known, where that is possible."""
        if self.path is None:
            return
        try:
            write_json(
                self.path, {"direction": str(self.direction), "queries": self.queries, "log_priors": self.values}
            )
        except (UserError, OSError) as error:  # a run on a read-only disk is searched all the same
            logger.info("the priors are not kept: %s", error)

    def totals(self) -> dict[str, float]:
        """Return identifier -> log p(identifier)."""
        return {identifier: values[-1] for identifier, values in self.values.items()}

    def correction(self, corpus: Corpus, weight: float) -> Correction:
        """Return what a search of a corpus takes off; the priors of all its identifiers have to be known."""
        index = corpus.index
        of_sequence: dict[tuple[int, ...], NDArray[np.float64]] = {
            sequence: np.array(self.values[corpus.text_of(sequence, index.items(sequence)[0])])
            for sequence in index.sequences()
        }
        return correction_of(index, of_sequence, weight)

    def _estimated(self, identifiers: Sequence[str]) -> dict[str, list[float]]:
        if not identifiers:
            return {}
        items = [Item(identifier, "", identifier, "") for identifier in identifiers]
        index = build_corpus(self.session, self.direction, items).index
        priors = estimate_priors(self.session.checkpoint.model, self._batches(), index)
        return {
            identifier: [round(value, DIGITS) for value in values.tolist()]
            for sequence, values in priors.items()
            for identifier in index.items(sequence)
        }

    def _batches(self) -> Iterable[dict[str, torch.Tensor]]:
        """Yield the queries as the model takes them."""
        if not self.queries:
            yield null_query_inputs(self.session, self.direction)
        if self.direction.queries_are_images:
            self.session.features.add(self.queries)
        for first in range(0, len(self.queries), QUERIES_PER_BATCH):
            batch = self.queries[first : first + QUERIES_PER_BATCH]
            yield query_inputs(self.session, self.direction, batch)


@dataclass(frozen=True)
class _Known:
    queries: list[str] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)


def _read(path: Path) -> _Known:
    """Read what is kept; nothing where there is no file, or a damaged one."""
    if not path.exists():
        return _Known()
    try:
        content = read_json(path)
        return _Known(list(content["queries"]), dict(content["log_priors"]))
    except (UserError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s is damaged (%s); the priors are estimated again", path, error)
        return _Known()
