"""Processes of the application on a Ray cluster: those that search, one that changes the corpus, one for requests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ray import serve
from ray.serve.handle import DeploymentHandle

from semcore.data.new_images import NewImage
from semcore.retrieval.corpus_updates import Addition
from semcore.serving.corpus_keeper import CorpusKeeper
from semcore.serving.limits import Limits
from semcore.serving.problems import Refusal
from semcore.serving.queries import Answer, ItemRecord, ServedQuery
from semcore.serving.served_run import RunOptions, ServedRun

T = TypeVar("T")


class Searcher:
    """A replica: a run whose queries are batched by Ray.

    Args:
        options: which run.
        limits: of a batch.
    """

    def __init__(self, options: RunOptions, limits: Limits):
        self._served = ServedRun.open(options)
        self._thread = ThreadPoolExecutor(1, "search")
        self.search_together.set_max_batch_size(limits.max_batch)  # type: ignore[attr-defined]
        self.search_together.set_batch_wait_timeout_s(limits.batch_wait_s)  # type: ignore[attr-defined]

    @serve.batch
    async def search_together(self, queries: list[ServedQuery]) -> list[tuple[Answer | Exception]]:
        """Answer queries that have come in at the same time; errors are wrapped, so that each is its query's alone."""
        found = await asyncio.get_running_loop().run_in_executor(self._thread, self._served.answer, queries)
        return [(own,) for own in found]

    async def search(self, query: ServedQuery) -> Answer | Exception:
        """Return the answer of one query, or why there is none."""
        found: Any = await self.search_together(query)
        own: Answer | Exception = found[0]
        return own

    async def item(self, item_id: str) -> ItemRecord | None:
        """Return an item, or None."""
        await self._refresh()
        return self._served.item(item_id)

    async def image_path(self, image_id: str) -> Path | None:
        """Return where an image lies, or None."""
        await self._refresh()
        return self._served.image_path(image_id)

    async def _refresh(self) -> None:
        """Take over a change of the corpus."""
        if self._served.is_stale:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._served.refresh)

    async def num_items(self) -> dict[str, int]:
        """Return direction -> how many items are found."""
        return {str(direction): number for direction, number in self._served.num_items().items()}

    async def process_id(self) -> int:
        """Return the replica's process."""
        return os.getpid()


class Keeper:
    """The one process that changes the corpus; replicas notice what it has done before their next batch.

    Args:
        options: which run.
    """

    def __init__(self, options: RunOptions):
        self._keeper = CorpusKeeper(options)

    async def add(self, images: Sequence[NewImage]) -> Addition | Exception:
        """Add images."""
        return await self._change(partial(self._keeper.add, images))

    async def remove(self, item_ids: Sequence[str]) -> int | Exception:
        """Remove items."""
        return await self._change(partial(self._keeper.remove, item_ids))

    async def _change(self, change: Callable[[], T]) -> T | Exception:
        try:
            return await asyncio.to_thread(change)
        except Refusal as refusal:  # returned, not raised: Ray wraps what is raised
            return refusal


class Front:
    """The process that takes the requests; it is given the others so that Ray starts them."""

    def __init__(self, searcher: DeploymentHandle[Any], keeper: DeploymentHandle[Any]):
        self._others = (searcher, keeper)
