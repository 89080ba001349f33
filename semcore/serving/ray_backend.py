"""Replicas on a Ray cluster, as the application asks them; a search whose replica dies is asked of another one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from semcore.data.new_images import NewImage
from semcore.retrieval.corpus_updates import Addition
from semcore.serving.backend import Health, refuse_missing
from semcore.serving.problems import overloaded, refusal_of
from semcore.serving.queries import Answer, ItemRecord, ServedQuery

T = TypeVar("T")
ATTEMPTS = 4  # ours: so many replicas have to die under one query until it fails
PAUSE_S = 0.2  # until the router knows that a replica is gone


class RayBackend:
    """The replicas, as the application asks them.

    Args:
        searcher: sends to the replica that has least to do.
        keeper: sends to the process that changes the corpus.
    """

    def __init__(self, searcher: DeploymentHandle[Any], keeper: DeploymentHandle[Any]):
        self._searcher, self._keeper = searcher, keeper
        self._waiting = 0

    async def search(self, queries: Sequence[ServedQuery]) -> list[Answer]:
        """Return the answers of a request's queries."""
        self._waiting += len(queries)
        asked = [asyncio.ensure_future(self._ask(partial(self._searcher.search.remote, q))) for q in queries]
        try:
            found = await asyncio.gather(*asked)
        finally:
            for task in asked:
                task.cancel()
            self._waiting -= len(queries)
        return [_or_raise(answer) for answer in found]

    async def item(self, item_id: str) -> ItemRecord | None:
        """Return an item, or None."""
        return await self._ask(lambda: self._searcher.item.remote(item_id))

    async def image_path(self, image_id: str) -> Path | None:
        """Return where an image lies, or None."""
        return await self._ask(lambda: self._searcher.image_path.remote(image_id))

    async def add(self, images: Sequence[NewImage]) -> Addition:
        """Add images; a keeper that dies meanwhile is asked again, since what is there already is left as it is."""
        return _or_raise(await self._ask(lambda: self._keeper.add.remote(images)))

    async def remove(self, item_ids: Sequence[str]) -> None:
        """Remove items."""
        found = await asyncio.gather(*(self.item(item_id) for item_id in item_ids))
        refuse_missing([item_id for item_id, item in zip(item_ids, found, strict=True) if item is None])
        _or_raise(await self._ask(lambda: self._keeper.remove.remote(item_ids)))

    async def health(self) -> Health:
        """Return the state: it is well while a replica says how many items there are."""
        try:
            num_items = await asyncio.wait_for(self._ask(lambda: self._searcher.num_items.remote()), 10)
        except Exception as error:
            return Health(False, {}, self._waiting, f"no replica answers: {refusal_of(error)}")
        return Health(True, num_items, self._waiting)

    async def close(self) -> None:
        """Leave the replicas to Ray."""

    async def _ask(self, send: Callable[[], Awaitable[T]]) -> T:
        """Ask a replica, and another one where it dies meanwhile.

        Raises:
            Refusal: all replicas have as much to do as they may, or none is left.
        """
        for attempt in range(ATTEMPTS):
            try:
                return await send()
            except BackPressureError:
                raise overloaded("all replicas have as many queries as they may; ask again in a second") from None
            except RayTaskError as error:
                raise refusal_of(error.cause if isinstance(error.cause, Exception) else error) from None
            except (RayActorError, DeploymentUnavailableError):
                await asyncio.sleep(PAUSE_S * 2**attempt)
        raise overloaded("the replicas that were asked have died; ask again in some seconds", 5.0)


def _or_raise(found: T | Exception) -> T:
    if isinstance(found, Exception):
        raise found
    return found
