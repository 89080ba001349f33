"""Backends of the application: where its queries are answered, in this process or on replicas elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from semcore.data.new_images import NewImage
from semcore.retrieval.corpus_updates import Addition
from semcore.serving.batching import Batcher, BatchRecord
from semcore.serving.corpus_keeper import CorpusKeeper
from semcore.serving.limits import Limits
from semcore.serving.problems import not_found
from semcore.serving.queries import Answer, ItemRecord, ServedQuery
from semcore.serving.served_run import ServedRun

STUCK_S = 300.0  # ours: no batch takes five minutes; one that does hangs


@dataclass(frozen=True)
class Health:
    """The state of a backend.

    Attributes:
        is_ok: it answers.
        num_items: direction -> items that can be found.
        num_waiting: queries in the queue.
        detail: why it does not answer; empty where it does.
    """

    is_ok: bool
    num_items: dict[str, int] = field(default_factory=dict)
    num_waiting: int = 0
    detail: str = ""


class Backend(Protocol):
    """What the application needs of whatever answers its queries."""

    async def search(self, queries: Sequence[ServedQuery]) -> list[Answer]:
        """Return the answers of a request's queries."""

    async def item(self, item_id: str) -> ItemRecord | None:
        """Return an item, or None."""

    async def image_path(self, image_id: str) -> Path | None:
        """Return where an image lies, or None."""

    async def add(self, images: Sequence[NewImage]) -> Addition:
        """Add images; whoever asks next finds them."""

    async def remove(self, item_ids: Sequence[str]) -> None:
        """Remove items; whoever asks next does not find them."""

    async def health(self) -> Health:
        """Return the state."""

    async def close(self) -> None:
        """Answer what waits, and end."""


def refuse_missing(item_ids: Sequence[str]) -> None:
    """Refuse a removal of items that are not there.

    Raises:
        Refusal: there is one.
    """
    if item_ids:
        more = f", nor {len(item_ids) - 1} more" if item_ids[1:] else ""
        raise not_found(f"there is no item {item_ids[0]!r}{more}; nothing was removed")


class LocalBackend:
    """A run in this process, whose queries are batched.

    Args:
        served: the run.
        keeper: changes its corpus.
        limits: of batches and queue.
        observe: is told of every batch.
    """

    def __init__(self, served: ServedRun, keeper: CorpusKeeper, limits: Limits, observe: Callable[[BatchRecord], None]):
        self._served, self._keeper = served, keeper
        self._changes = ThreadPoolExecutor(1, "changes")  # one at a time, beside the searches
        self._batcher: Batcher[ServedQuery, Answer] = Batcher(
            served.answer,
            num_bytes=lambda query: query.num_bytes,
            max_batch=limits.max_batch,
            wait_s=limits.batch_wait_s,
            max_queue=limits.max_queue,
            max_queue_bytes=limits.max_queue_bytes,
            observe=observe,
        )

    async def search(self, queries: Sequence[ServedQuery]) -> list[Answer]:
        """Return the answers of a request's queries."""
        return await self._batcher.submit(queries)

    async def item(self, item_id: str) -> ItemRecord | None:
        """Return an item, or None."""
        await self._refresh()
        return self._served.item(item_id)

    async def image_path(self, image_id: str) -> Path | None:
        """Return where an image lies, or None."""
        await self._refresh()
        return self._served.image_path(image_id)

    async def add(self, images: Sequence[NewImage]) -> Addition:
        """Add images; whoever asks next finds them."""
        done = await asyncio.get_running_loop().run_in_executor(self._changes, self._keeper.add, images)
        await self._refresh()
        return done

    async def remove(self, item_ids: Sequence[str]) -> None:
        """Remove items; whoever asks next does not find them."""
        await self._refresh()
        refuse_missing([item_id for item_id in item_ids if self._served.item(item_id) is None])
        await asyncio.get_running_loop().run_in_executor(self._changes, self._keeper.remove, item_ids)
        await self._refresh()

    async def _refresh(self) -> None:
        """Take over a change of the corpus, this server's or another's, in the thread that searches."""
        if self._served.is_stale:
            await self._batcher.between(self._served.refresh)

    async def health(self) -> Health:
        """Return the state; a batch that takes minutes hangs."""
        busy_s = self._batcher.busy_s
        detail = f"a batch has taken {busy_s:.0f} s" if busy_s > STUCK_S else ""
        num_items = {str(direction): number for direction, number in self._served.num_items().items()}
        return Health(not detail, num_items, len(self._batcher), detail)

    async def close(self) -> None:
        """Answer what waits, and end."""
        await self._batcher.close()
        self._changes.shutdown(wait=False)
