"""The application on Ray Serve: one process takes the requests, replicas on the cluster's machines answer them.

A replica's death loses no search: what it had is asked of another one. The run folder and its dataset have to be where
every machine sees them. Ray's usage statistics and its dashboard are off.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from semcore.models.inference import default_device
from semcore.retrieval.corpus_updates import Addition, NewImage
from semcore.runtime.errors import UserError
from semcore.serving.app import Service, create_app
from semcore.serving.backend import Backend, Health, refuse_missing
from semcore.serving.corpus_keeper import CorpusKeeper
from semcore.serving.limits import Limits
from semcore.serving.metrics import Metrics
from semcore.serving.problems import Refusal, overloaded, refusal_of
from semcore.serving.queries import Answer, ItemRecord, ServedQuery
from semcore.serving.served_run import RunOptions, ServedRun

T = TypeVar("T")
APPLICATION, SEARCHER, KEEPER = "semcore", "Searcher", "Keeper"
ATTEMPTS = 4  # ours: so many replicas have to die under one query until it fails
PAUSE_S = 0.2  # until the router knows that a replica is gone
ONGOING_PER_BATCH = 2  # one batch that is worked on, and one that gathers
START_S = 180  # Ray gives its own processes 30 s to start, which a busy machine does not keep
FRONT_REQUESTS = 10_000  # more than all queues: what is too much is refused by the application, in its words


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
        found: Any = await self.search_together(query)  # type: ignore[arg-type]
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


@dataclass(frozen=True)
class Plan:
    """What is deployed.

    Attributes:
        options: which run.
        limits: of requests and batches.
        token: what a request has to bring, None for nothing.
        read_only: why items are neither added nor removed; empty where they are.
        replicas: searching processes, at least.
        max_replicas: as many more as the load asks for, up to this number; None for no more.
    """

    options: RunOptions
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    read_only: str = ""
    replicas: int = 1
    max_replicas: int | None = None

    @property
    def most_replicas(self) -> int:
        """Return how many searching processes there may be."""
        return max(self.replicas, self.max_replicas or 0)


def run_ray(plan: Plan, host: str, port: int, address: str | None, on_ready: Callable[[], None]) -> None:
    """Serve until the process is told to stop.

    Args:
        plan: what is deployed; the run is opened in this process first, so that what is wrong is said in a sentence.
        host: the address that is listened on.
        port: its port.
        address: the cluster to join, None to start one here.
        on_ready: is called when requests are answered.

    Raises:
        UserError: the run cannot be opened, or there is no such cluster.
    """
    plan.options.open_retriever()
    try:
        start_serving(plan, host, port, address)
        on_ready()
        _wait_for_the_end()
    finally:
        stop_serving()


def start_serving(plan: Plan, host: str, port: int, address: str | None) -> None:
    """Start or join a cluster, and deploy the application on it; return when it answers.

    Args:
        plan: what is deployed.
        host: the address that is listened on.
        port: its port.
        address: the cluster to join, None to start one here.

    Raises:
        UserError: there is no such cluster, or no replica could open the run.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_raylet_start_wait_time_s", str(START_S))
    own = {} if address else {"include_dashboard": False, "num_cpus": max(os.cpu_count() or 1, plan.most_replicas)}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, ValueError) as error:
        raise UserError(
            f"there is no Ray cluster at {address} ({error}); start one with `ray start --head`, or leave "
            "--ray-address out"
        ) from None
    serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
    try:
        serve.run(application(plan), name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise UserError(f"no replica could open the run: {error}") from None


def stop_serving() -> None:
    """End the application, and what was started for it."""
    serve.shutdown()
    ray.shutdown()


def application(plan: Plan) -> Any:
    """Return the application as Ray deploys it: one process for requests, one for changes, and those that search."""
    limits, options = plan.limits, plan.options
    most = limits.max_batch * ONGOING_PER_BATCH
    scale: dict[str, Any] = {"num_replicas": plan.replicas}
    if plan.most_replicas > plan.replicas:
        bounds = {"min_replicas": plan.replicas, "max_replicas": plan.most_replicas}
        scale = {"autoscaling_config": {**bounds, "target_ongoing_requests": limits.max_batch}}
    searcher = serve.deployment(
        name=SEARCHER,
        max_ongoing_requests=most,
        max_queued_requests=limits.max_queue,
        ray_actor_options=_machine_of(options),
        **scale,
    )(Searcher)
    keeper = serve.deployment(name=KEEPER, max_ongoing_requests=1, ray_actor_options={"num_cpus": 0})(Keeper)
    service = partial(Service, options.run.name, _ray_backend, limits, plan.token, plan.read_only)

    def build() -> FastAPI:
        return create_app(service())

    front = serve.deployment(name="Front", max_ongoing_requests=FRONT_REQUESTS, ray_actor_options={"num_cpus": 0})(
        serve.ingress(build)(Front)
    )
    return front.bind(searcher.bind(options, limits), keeper.bind(options))


def _machine_of(options: RunOptions) -> dict[str, float]:
    """Return what a replica takes of its machine: a GPU where it runs on one, else a core."""
    device = options.device or default_device()
    return {"num_gpus": 1} if device.startswith("cuda") else {"num_cpus": 1}


def _ray_backend(_metrics: Metrics) -> Backend:
    searcher, keeper = (serve.get_deployment_handle(name, APPLICATION) for name in (SEARCHER, KEEPER))
    return RayBackend(searcher, keeper)


def _wait_for_the_end() -> None:
    """Return on SIGTERM; Ctrl-C is a KeyboardInterrupt."""
    ended = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        ended.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
