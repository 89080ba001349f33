"""The application on Ray Serve: one process takes the requests, replicas on the cluster's machines answer them.

A replica's death loses no search: what it had is asked of another one. The run folder and its dataset have to be where
every machine sees them. Ray's usage statistics and its dashboard are off.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve

from semcore.models.inference import default_device
from semcore.runtime.errors import UserError
from semcore.serving.app import create_app
from semcore.serving.backend import Backend
from semcore.serving.limits import MIB, Limits
from semcore.serving.metrics import Metrics
from semcore.serving.ray_backend import RayBackend
from semcore.serving.ray_replicas import Front, Keeper, Searcher
from semcore.serving.served_run import RunOptions
from semcore.serving.service import Service

APPLICATION, SEARCHER, KEEPER = "semcore", "Searcher", "Keeper"
ONGOING_PER_BATCH = 2  # one batch that is worked on, and one that gathers
STARTS = 3  # Ray gives its own processes 30 s to start, which a busy machine does not always keep
PATIENCE = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60", "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60"}
"""Ray ends its own process for connections where it does not answer within 5 or 10 s, as on a busy machine."""
STORE_BYTES = 256 * MIB  # ours: requests and answers on their way; Ray would take a third of the memory
FRONT_REQUESTS = 10_000  # more than all queues: what is too much is refused by the application, in its words


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
    start_serving(plan, host, port, address)
    try:
        on_ready()
        _wait_for_the_end()
    finally:
        stop_serving(address)


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
    for name, value in PATIENCE.items():  # Ray's processes inherit them
        os.environ.setdefault(name, value)
    own: dict[str, Any] = {} if address else {
        "include_dashboard": False,
        "num_cpus": max(os.cpu_count() or 1, plan.most_replicas),
        "object_store_memory": STORE_BYTES,
    }  # fmt: skip
    _join_or_start(address, {"address": address, "log_to_driver": False, "logging_level": logging.ERROR, **own})
    serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
    try:
        serve.run(application(plan), name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise UserError(f"no replica could open the run: {error}") from None


def _join_or_start(address: str | None, options: dict[str, Any]) -> None:
    for attempt in range(1, STARTS + 1):
        try:
            ray.init(**options)
            return
        except (ConnectionError, ValueError) as error:
            raise UserError(
                f"there is no Ray cluster at {address} ({error}); start one with `ray start --head`, or leave "
                "--ray-address out"
            ) from None
        except Exception as error:  # Ray has no class of its own for it
            if "timed out during startup" not in str(error) or attempt == STARTS:
                raise
            ray.shutdown()


def stop_serving(address: str | None) -> None:
    """End the application, and the cluster where it was started for it.

    Args:
        address: as for `start_serving`.
    """
    if address:
        serve.delete(APPLICATION)
    else:
        serve.shutdown()
    ray.shutdown()


def application(plan: Plan) -> Any:
    """Return the application as Ray deploys it: one process for requests, one for changes, and those that search."""
    limits, options = plan.limits, plan.options
    needs = _machine_of(options)
    if "num_gpus" in needs:  # Ray gives every replica a GPU of its own, which is the first that it sees
        options = replace(options, device=None)
    most = limits.max_batch * ONGOING_PER_BATCH
    scale: dict[str, Any] = {"num_replicas": plan.replicas}
    if plan.most_replicas > plan.replicas:
        bounds = {"min_replicas": plan.replicas, "max_replicas": plan.most_replicas}
        scale = {"autoscaling_config": {**bounds, "target_ongoing_requests": limits.max_batch}}
    searcher = serve.deployment(
        name=SEARCHER,
        max_ongoing_requests=most,
        max_queued_requests=limits.max_queue,
        ray_actor_options=needs,
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
