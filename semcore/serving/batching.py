"""Batching of concurrent queries: while one batch is answered, what comes in is gathered into the next.

One thread answers, so that models need no lock. A lone client never waits for company: a batch waits for more queries
only where the batch before it had several.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from semcore.serving.problems import failed, overloaded, stopping

logger = logging.getLogger(__name__)
Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(eq=False)
class _Waiting(Generic[Q, A]):
    """A query, how many bytes it holds, who waits for its answer, and since when."""

    query: Q
    num_bytes: int
    answer: asyncio.Future[A]
    since: float = field(default_factory=time.monotonic)
    is_queued: bool = True


@dataclass
class BatchRecord:
    """What is measured of a batch: its queries, seconds each waited, and seconds of the work."""

    num_queries: int
    waited_s: list[float]
    work_s: float


class Batcher(Generic[Q, A]):
    """A queue whose queries are answered in batches, in the order they came.

    Args:
        work: answers a batch, one answer or error a query, in its order; it is called from one thread.
        num_bytes: returns how much memory a query holds.
        max_batch: queries in a batch.
        wait_s: as `Limits.batch_wait_s`.
        max_queue: queries that wait.
        max_queue_bytes: bytes that wait.
        observe: is told of every batch.
    """

    def __init__(
        self,
        work: Callable[[list[Q]], Sequence[A | Exception]],
        *,
        num_bytes: Callable[[Q], int],
        max_batch: int,
        wait_s: float,
        max_queue: int,
        max_queue_bytes: int,
        observe: Callable[[BatchRecord], None] = lambda _record: None,
    ):
        self._work, self._num_bytes, self._observe = work, num_bytes, observe
        self._max_batch, self._wait_s = max_batch, wait_s
        self._max_queue, self._max_queue_bytes = max_queue, max_queue_bytes
        self._queue: deque[_Waiting[Q, A]] = deque()
        self._bytes = 0
        self._arrived, self._enough = asyncio.Event(), asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "search")
        self._runner: asyncio.Task[None] | None = None
        self._stopping = False
        self._since: float | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def busy_s(self) -> float:
        """Return for how many seconds the present batch has been worked on, 0 without one."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    async def submit(self, queries: Sequence[Q]) -> list[A]:
        """Return the answers of a request's queries, all of which are taken into the queue or none.

        Whoever is cancelled takes its queries out of the queue.

        Raises:
            Refusal: the queue is full, or the server is stopping.
            Exception: what the work said of the first query that failed.
        """
        entries = self._enter(queries)
        try:
            return list(await asyncio.gather(*(entry.answer for entry in entries)))
        finally:
            self._leave(entries)

    async def between(self, job: Callable[[], None]) -> None:
        """Do something in the thread that answers, between two batches."""
        await asyncio.get_running_loop().run_in_executor(self._thread, job)

    async def close(self) -> None:
        """Refuse new queries, answer those that wait, and end the thread."""
        self._stopping = True
        self._arrived.set()
        self._enough.set()
        if self._runner is not None:
            await self._runner
        self._thread.shutdown(wait=False)

    def _enter(self, queries: Sequence[Q]) -> list[_Waiting[Q, A]]:
        if self._stopping:
            raise stopping()
        sizes = [self._num_bytes(query) for query in queries]
        num_queries, num_bytes = len(self._queue) + len(queries), self._bytes + sum(sizes)
        if num_queries > self._max_queue or num_bytes > self._max_queue_bytes:
            raise overloaded(
                f"{len(self._queue):,} queries of {self._bytes / 1e6:.0f} MB are waiting, and {self._max_queue:,} of "
                f"{self._max_queue_bytes / 1e6:.0f} MB may; ask again in a second"
            )
        loop = asyncio.get_running_loop()
        if self._runner is None:
            self._runner = loop.create_task(self._run())
        entries = [_Waiting(q, size, loop.create_future()) for q, size in zip(queries, sizes, strict=True)]
        self._queue.extend(entries)
        self._bytes = num_bytes
        self._arrived.set()
        if len(self._queue) >= self._max_batch:
            self._enough.set()
        return entries

    def _leave(self, entries: Sequence[_Waiting[Q, A]]) -> None:
        """Take out of the queue what nobody waits for any more, and let no late answer or error be complained of."""
        gone = {entry for entry in entries if entry.is_queued}
        if gone:
            self._bytes -= sum(entry.num_bytes for entry in gone)
            self._queue = deque(entry for entry in self._queue if entry not in gone)
        for entry in entries:
            entry.answer.cancel()
            if not entry.answer.cancelled():
                entry.answer.exception()

    async def _run(self) -> None:
        had_company = False
        while not (self._stopping and not self._queue):
            await self._arrived.wait()
            if had_company and len(self._queue) < self._max_batch and not self._stopping:
                await self._wait_for_company()
            batch = self._take()
            if batch:
                had_company = len(batch) > 1
                await self._answer(batch)

    async def _wait_for_company(self) -> None:
        self._enough.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._enough.wait(), self._wait_s)

    def _take(self) -> list[_Waiting[Q, A]]:
        batch = [self._queue.popleft() for _ in range(min(self._max_batch, len(self._queue)))]
        for entry in batch:
            entry.is_queued = False
            self._bytes -= entry.num_bytes
        if not self._queue and not self._stopping:
            self._arrived.clear()
        return [entry for entry in batch if not entry.answer.done()]

    async def _answer(self, batch: list[_Waiting[Q, A]]) -> None:
        self._since = begun = time.monotonic()
        try:
            queries = [entry.query for entry in batch]
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._work, queries)
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} queries")
        except Exception:
            logger.exception("a batch of %d queries failed", len(batch))
            answers = [failed()] * len(batch)
        self._since = None
        for entry, answer in zip(batch, answers, strict=True):
            if entry.answer.done():  # whoever asked has gone
                continue
            if isinstance(answer, Exception):
                entry.answer.set_exception(answer)
            else:
                entry.answer.set_result(answer)
        self._observe(BatchRecord(len(batch), [begun - entry.since for entry in batch], time.monotonic() - begun))
