"""A run that answers batches of queries of both directions; one thread at a time may ask it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from semcore.data.corpus_changes import changes_stamp
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.models.inference import Dtype
from semcore.retrieval.hits import Hit
from semcore.retrieval.prior_settings import PriorChoice
from semcore.retrieval.query_pictures import open_picture
from semcore.retrieval.retriever import Retriever
from semcore.runtime.errors import UserError
from semcore.runtime.typed_commands import typed
from semcore.serving.problems import broken_run, failed, no_direction, refusal_of
from semcore.serving.queries import Answer, ItemRecord, ServedQuery

logger = logging.getLogger(__name__)
DECODING_THREADS = 4  # ours: pictures of one batch, decoded side by side
WARM_UP_TEXT, WARM_UP_PICTURE = "a picture", (64, 64)


@dataclass(frozen=True)
class RunOptions:
    """Which run is served and how it is opened: arguments of `Retriever.from_run`, which travel to other machines.

    Attributes:
        run: the run folder.
        data: present path of the dataset; by default the one in the run's manifest.
        split: the items that are searched.
        base: present path of the checkpoint that the run was made with, if it has moved.
        allow_mismatch: kinds of lineage mismatch that are allowed.
        prior_weight: as in `Retriever.from_run`.
        device: the models' device; the fastest one by default.
        dtype: precision of the models. In bfloat16 a query's scores depend on its company in the third digit behind
            the point; in float32 they are the same to 1e-5.
    """

    run: Path
    data: Path | None = None
    split: str = "all"
    base: Path | None = None
    allow_mismatch: tuple[str, ...] = ()
    prior_weight: PriorChoice = "fit"
    device: str | None = None
    dtype: Dtype = "float32"

    def open_retriever(self) -> Retriever:
        """Open the run.

        Raises:
            UserError: as `Retriever.from_run`.
        """
        return Retriever.from_run(
            self.run,
            data=self.data,
            split=self.split,
            base=self.base,
            allow_mismatch=self.allow_mismatch,
            prior_weight=self.prior_weight,
            device=self.device,
            dtype=self.dtype,
        )


@dataclass
class ServedRun:
    """A run that is searched.

    Attributes:
        retriever: the opened run.
        directions: those that its models were trained for.
    """

    retriever: Retriever
    directions: list[Direction] = field(default_factory=list)
    _notes: dict[Direction, tuple[str, ...]] = field(default_factory=dict, repr=False)
    _refused: dict[Direction, str] = field(default_factory=dict, repr=False)
    # Nothing seen yet: the first batch looks, whatever has changed while the models were loaded.
    _seen: tuple[int, int] = (0, 0)

    @classmethod
    def open(cls, options: RunOptions) -> ServedRun:
        """Open a run and search once in every direction, so that what is missing is known before anybody asks.

        Raises:
            UserError: the run cannot be searched in either direction, or lacks what a search needs.
        """
        served = cls(options.open_retriever())
        for direction in Direction:
            try:
                served.retriever.items(direction)
            except UserError as error:  # the models were trained for the other one, or there are no items
                served._refused[direction] = without_folder(str(error), options.run)
                logger.warning("no search from %s: %s", direction.words, error)
                continue
            served._warm_up(direction)
            served.directions.append(direction)
        if not served.directions:
            raise UserError(served._refused[Direction.T2I])
        return served

    def answer(self, queries: Sequence[ServedQuery]) -> list[Answer | Exception]:
        """Return an answer or an error for every query; the error of one is nobody else's.

        Queries of a direction and a width of the beam are searched together; no query's hits depend on its company.
        """
        self.refresh()
        found: dict[int, Answer | Exception] = {}
        pictures = self._decode(queries, found)
        groups: dict[tuple[Direction, int], list[int]] = {}
        for place, query in enumerate(queries):
            if place not in found:
                beams = max(self.retriever.num_beams, query.top_k)
                groups.setdefault((query.direction, beams), []).append(place)
        for (direction, _), places in groups.items():
            found |= self._search(direction, [queries[p] for p in places], [pictures.get(p) for p in places], places)
        return [found[place] for place in range(len(queries))]

    @property
    def is_stale(self) -> bool:
        """Return whether the corpus has changed since it was read, by whomever."""
        return self._seen != changes_stamp(self.retriever.run)

    def refresh(self) -> None:
        """Take over what has become of the corpus; models stay loaded."""
        stamp = changes_stamp(self.retriever.run)
        if stamp == self._seen:
            return
        try:
            retriever = self.retriever.refreshed()
            for direction in self.directions:
                retriever.items(direction)  # its index is made ready here, in the thread that searches
            self.retriever = retriever
            self._notes = {direction: self._notes_of(direction) for direction in self.directions}
        except UserError as error:
            logger.warning("going on with the items as they were: %s", error)
        self._seen = stamp

    def item(self, item_id: str) -> ItemRecord | None:
        """Return an item, an image before a sentence of the same id, or None."""
        for direction in self.directions:
            item = self.retriever.items(direction).get(item_id)
            if item is not None:
                return ItemRecord(
                    item.item_id, direction, item.image_id, item.identifier, item.keywords, item.text or None
                )
        return None

    def image_path(self, image_id: str) -> Path | None:
        """Return where an image that can be found lies, or None."""
        if Direction.T2I not in self.directions:
            return None
        item: Item | None = self.retriever.items(Direction.T2I).get(image_id)
        return None if item is None else item.image_path

    def num_items(self) -> dict[Direction, int]:
        """Return how many items each direction has."""
        return {direction: len(self.retriever.items(direction)) for direction in self.directions}

    def _warm_up(self, direction: Direction) -> None:
        """Load what a direction needs and search once in it."""
        if direction.queries_are_images:
            self.retriever.search(image=Image.new("RGB", WARM_UP_PICTURE, "white"), top_k=1)
        else:
            self.retriever.search(text=WARM_UP_TEXT, top_k=1)
        self._notes[direction] = self._notes_of(direction)

    def _notes_of(self, direction: Direction) -> tuple[str, ...]:
        notes = (self.retriever.prior_note(direction), self.retriever.confidence_note(direction))
        return tuple(without_folder(note, self.retriever.run.path) for note in notes if note)

    def _decode(self, queries: Sequence[ServedQuery], found: dict[int, Answer | Exception]) -> dict[int, Image.Image]:
        """Return the pictures of a batch by their place in it; errors go to `found`."""
        places = [place for place, query in enumerate(queries) if query.picture is not None]
        pictures: dict[int, Image.Image] = {}
        if not places:
            return pictures
        with ThreadPoolExecutor(DECODING_THREADS) as pool:
            for place, opened in zip(places, pool.map(_opened, [queries[p].picture for p in places]), strict=True):
                if isinstance(opened, Exception):
                    found[place] = opened
                else:
                    pictures[place] = opened
        return pictures

    def _search(
        self,
        direction: Direction,
        queries: Sequence[ServedQuery],
        pictures: Sequence[Image.Image | None],
        places: Sequence[int],
    ) -> dict[int, Answer | Exception]:
        """Search for queries that go together; where that fails, for each of them alone."""
        if direction in self._refused:
            return dict.fromkeys(places, no_direction(self._refused[direction]))
        try:
            hits = self._hits(direction, queries, pictures)
        except Exception as error:
            if len(queries) > 1:
                logger.warning("%d queries failed together (%s); each is searched alone", len(queries), error)
                alone = zip(queries, pictures, places, strict=True)
                return {p: one for q, i, p in alone for one in self._search(direction, [q], [i], [p]).values()}
            logger.exception("a query failed")
            return {places[0]: broken_run() if isinstance(error, UserError) else failed()}
        notes = self._notes.get(direction, ())
        cut = [
            Answer(own[: query.top_k], notes, tuple(map(_explanation, own[: query.top_k])) if query.explain else ())
            for own, query in zip(hits, queries, strict=True)
        ]
        return dict(zip(places, cut, strict=True))

    def _hits(
        self, direction: Direction, queries: Sequence[ServedQuery], pictures: Sequence[Image.Image | None]
    ) -> list[list[Hit]]:
        top_k = max(query.top_k for query in queries)
        if direction.queries_are_images:
            return self.retriever.search(image=[picture for picture in pictures if picture is not None], top_k=top_k)
        return self.retriever.search(text=[query.text or "" for query in queries], top_k=top_k)


def without_folder(sentence: str, run: Path) -> str:
    """Return a sentence about a run for clients, whom its place on the server does not concern: with its name alone."""
    for place in (str(run.absolute()), typed(run)):
        sentence = sentence.replace(place, run.absolute().name)
    return sentence


def _explanation(hit: Hit) -> dict[str, Any]:
    """Return why a hit was found, without where its image lies on the server."""
    found = hit.explain()
    return {**found, "item": {name: value for name, value in found["item"].items() if name != "image_path"}}


def _opened(content: bytes | None) -> Image.Image | Exception:
    try:
        return open_picture(content or b"")
    except UserError as error:
        return refusal_of(error)
