"""A run as the page searches it: every query with its own settings, one at a time, models and indexes shared.

What is added to the corpus or removed from it while the page is served, the next search finds or misses.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from PIL import Image

from semcore.data.corpus_changes import changes_stamp, with_added_images
from semcore.data.directions import Direction
from semcore.demo.page_queries import AUTO, PageQuery, checked
from semcore.demo.query_pictures import QueryPictures
from semcore.models.verifier_registry import VERIFIERS
from semcore.retrieval.hits import Hit
from semcore.retrieval.retriever import Retriever
from semcore.retrieval.verifier_choice import verifier_model
from semcore.runtime.errors import UserError

logger = logging.getLogger(__name__)
NUM_HITS = 10
NUM_KEPT = 64  # ours: outcomes whose hits can still be explained without a second search


@dataclass(frozen=True)
class Outcome:
    """A search and what it found.

    Attributes:
        query: with its settings, as it was searched.
        hits: best first.
        seconds: that it took, without the wait for others.
        verifier: the one that was used, or "none".
        prior_weight: the share of the identifiers' prior that came off.
        num_items: how many were searched.
        notes: what a user should know about the hits.
    """

    query: PageQuery
    hits: list[Hit]
    seconds: float
    verifier: str
    prior_weight: float
    num_items: int
    notes: tuple[str, ...]


class RunSearch:
    """A run that is searched by many users, one query after the other.

    Args:
        retriever: the opened run.
        pictures: that can be searched with.
        allow_mismatch: as in `Retriever.from_run`, for the verifiers that a user chooses.

    Attributes:
        pictures: as given.
        refused: direction -> why it cannot be searched.
        verifiers: those that can be chosen -> their names on the page.
    """

    def __init__(self, retriever: Retriever, pictures: QueryPictures, allow_mismatch: Collection[str] = ()):
        self.pictures = pictures
        self.refused: dict[Direction, str] = {}
        self.verifiers = {AUTO: f"as the run says: {retriever.verifier}"} | available_verifiers(retriever)
        self._base, self._allowed = retriever, allow_mismatch
        self._retrievers: dict[tuple[str, str], Retriever] = {}
        self._kept: OrderedDict[str, Outcome] = OrderedDict()
        self._lock = threading.Lock()
        self._seen = (0, 0)  # nothing yet: the first search looks, whatever has changed while the models were loaded

    @property
    def retriever(self) -> Retriever:
        """Return the run with the settings it has by itself."""
        return self._base

    def warm_up(self) -> None:
        """Search once in each direction, so that all is loaded, and what is missing is known, before anybody asks.

        Raises:
            UserError: the run can be searched in neither direction.
        """
        for direction in Direction:
            try:
                if direction.queries_are_images:
                    self._base.search(image=Image.new("RGB", (64, 64), "white"), top_k=1)
                else:
                    self._base.search(text="a picture", top_k=1)
            except UserError as error:
                self.refused[direction] = str(error)
                logger.warning("no search from %s: %s", direction.words, error)
        if len(self.refused) == len(Direction):
            raise UserError(self.refused[Direction.T2I])

    def refresh(self) -> None:
        """Take over what has become of the corpus, by whomever; models stay loaded."""
        with self._lock:
            self._refresh()

    def search(self, query: PageQuery) -> Outcome:
        """Return what a query finds.

        Raises:
            UserError: the query is wrong, or cannot be answered by this run.
        """
        query = checked(query, self.verifiers)
        if query.direction in self.refused:
            raise UserError(self.refused[query.direction])
        self.refresh()
        picture = self.pictures.open(query.image) if query.image else None
        with self._lock:
            outcome = self._search(query, picture)
            self._kept[query.link] = outcome
            while len(self._kept) > NUM_KEPT:
                self._kept.popitem(last=False)
        return outcome

    def explain(self, query: PageQuery, item_id: str) -> dict[str, Any]:
        """Return why a query finds an item, as plain data (`semcore.retrieval.explanation`).

        Raises:
            UserError: as `search`, or the item is not among the hits.
        """
        outcome = self._kept.get(checked(query, self.verifiers).link) or self.search(query)
        hit = next((hit for hit in outcome.hits if hit.item_id == item_id), None)
        if hit is None:
            raise UserError(f"there is no hit {item_id[:80]!r} of this query; search again")
        with self._lock:
            return hit.explain()

    def _refresh(self) -> None:
        stamp = changes_stamp(self._base.run)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            base = self._base.refreshed()
            retrievers = {key: own.refreshed() for key, own in self._retrievers.items()}
            for direction in Direction:
                if direction not in self.refused:
                    base.items(direction)
        except UserError as error:
            logger.warning("going on with the items as they were: %s", error)
            return
        self._base, self._retrievers = base, retrievers
        self.pictures.dataset = with_added_images(base.run, base.dataset, base.changes)

    def _search(self, query: PageQuery, picture: Image.Image | None) -> Outcome:
        retriever = self._retriever(query)
        retriever.num_beams, direction = query.num_beams, query.direction
        begun, top_k = time.perf_counter(), min(NUM_HITS, query.num_beams)
        if picture is not None:
            hits = retriever.search(image=picture, top_k=top_k)
        else:
            hits = retriever.search(text=query.text, top_k=top_k)
        notes = (retriever.prior_note(direction), retriever.confidence_note(direction))
        return Outcome(
            query,
            hits,
            time.perf_counter() - begun,
            retriever.verifier,
            retriever.prior_settings.weight(direction),
            len(retriever.items(direction)),
            tuple(note for note in notes if note),
        )

    def _retriever(self, query: PageQuery) -> Retriever:
        """Return the run with a query's verifier and prior; made at their first use."""
        key = (query.verifier, query.prior)
        if key not in self._retrievers:
            self._retrievers[key] = self._base.with_settings(
                verifier=None if query.verifier == AUTO else query.verifier,
                prior_weight=query.prior_weight,
                allow_mismatch=self._allowed,
            )
        return self._retrievers[key]


def available_verifiers(retriever: Retriever) -> dict[str, str]:
    """Return the verifiers that a run can be searched with, and what they do: its own, and those it was measured with.

    "none" comes last; the likelihood needs no training and no measurement, only the captioner.
    """
    found = {}
    for name, entry in VERIFIERS.items():
        wanted = entry.model == "trained" or name == "likelihood" or name in retriever.fusion_settings.fusions
        if wanted and _has_model(retriever, name):
            found[name] = f"{name}: {entry.meaning}"
    return found | {"none": "none: the generator alone"}


def _has_model(retriever: Retriever, name: str) -> bool:
    try:
        verifier_model(retriever.run, name, retriever.fusion_settings, retriever.base)
    except UserError:
        return False
    return True
