"""Backends of the application: where its queries are answered, in this process or on replicas elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from semcore.serving.batching import Batcher, BatchRecord
from semcore.serving.limits import Limits
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

    async def health(self) -> Health:
        """Return the state."""

    async def close(self) -> None:
        """Answer what waits, and end."""


class LocalBackend:
    """A run in this process, whose queries are batched.

    Args:
        served: the run.
        limits: of batches and queue.
        observe: is told of every batch.
    """

    def __init__(self, served: ServedRun, limits: Limits, observe: Callable[[BatchRecord], None]):
        self._served = served
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
        return self._served.item(item_id)

    async def image_path(self, image_id: str) -> Path | None:
        """Return where an image lies, or None."""
        return self._served.image_path(image_id)

    async def health(self) -> Health:
        """Return the state; a batch that takes minutes hangs."""
        busy_s = self._batcher.busy_s
        detail = f"a batch has taken {busy_s:.0f} s" if busy_s > STUCK_S else ""
        num_items = {str(direction): number for direction, number in self._served.num_items().items()}
        return Health(not detail, num_items, len(self._batcher), detail)

    async def close(self) -> None:
        """Answer what waits, and end."""
        await self._batcher.close()
