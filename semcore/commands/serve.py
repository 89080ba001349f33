"""Serve a run's search over HTTP, on this machine alone unless a host is given.

    semcore serve --run runs/quickstart
    semcore serve --run runs/quickstart --port 8080 --limits.rate 20
    semcore serve --run runs/quickstart --host 0.0.0.0 --token-file token.txt
    semcore serve --run runs/quickstart --engine ray --replicas 2 --max-replicas 8

POST /search takes {"text": "a red circle"} or {"image": "<base64>"}, or lists of them. POST and DELETE /items change
what is found, now and after a restart. /openapi.json describes all routes. Queries that come in at the same time are
searched in one forward. Needs the extra `serve`, and for `--engine ray` the extra `ray`.
"""

from __future__ import annotations

import ipaddress
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from semcore.commands.arguments import announcer, require_minimum
from semcore.retrieval.prior_settings import PriorChoice, check_prior_weight
from semcore.runtime.errors import UserError
from semcore.runtime.settings import LineageSettings
from semcore.runtime.text_files import read_text
from semcore.serving.limits import Limits

if TYPE_CHECKING:
    from semcore.serving.served_run import RunOptions

TOKEN_VARIABLE = "SEMCORE_TOKEN"
say = announcer("serve")


@dataclass
class ServeSettings(LineageSettings):
    """What `semcore serve` takes."""

    help_sections: ClassVar = {"engine": "engine"}

    run: Path
    """The run folder."""
    port: int = 8000
    """The port; 0 takes any that is free."""
    host: str = "127.0.0.1"
    """The address that is listened on; another than this machine's own needs a token."""
    token_file: Path | None = None
    """Holds the token that every request has to bring; by default the variable SEMCORE_TOKEN, where it is set."""
    read_only: bool = False
    """Neither add nor remove items."""
    split: Literal["all", "train", "val", "test"] = "all"
    """Search the items of one split, or of all; only to all of them can be added."""
    prior_weight: PriorChoice = "fit"
    """How much of log p(identifier) comes off the generator's score, as in `semcore search`."""
    data: Path | None = None
    """Where the dataset is now, should it have moved."""
    engine: Literal["uvicorn", "ray"] = "uvicorn"
    """One process, or replicas on the machines of a Ray cluster."""
    replicas: int = 1
    """With `--engine ray`: searching processes, at least."""
    max_replicas: int | None = None
    """With `--engine ray`: as many more as the load asks for, up to this number."""
    ray_address: str | None = None
    """With `--engine ray`: the cluster to join, "auto" say; by default one is started here."""
    device: str | None = None
    """The models' device; the fastest there is by default."""
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    """The models' precision: in float32 a query's scores are the same whatever is searched with it, to 1e-5; bfloat16
    takes half the memory, auto is bfloat16 where the device multiplies it natively."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise UserError(f"--port must be from 0 to 65535, found {self.port}")
        check_prior_weight(self.prior_weight, "--prior-weight")
        require_minimum(1, self, "replicas")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise UserError(f"--max-replicas must be at least --replicas, {self.replicas}, found {self.max_replicas}")
        if self.engine == "uvicorn" and (self.replicas, self.max_replicas, self.ray_address) != (1, None, None):
            raise UserError("--replicas, --max-replicas and --ray-address need --engine ray; uvicorn is one process")


def main(settings: ServeSettings) -> None:
    """Serve until the process is told to stop."""
    _check_libraries(settings.engine)
    token = read_token(settings.token_file)
    if token is None and not is_loopback(settings.host):
        raise UserError(
            f"--host {settings.host} opens the run to the network: set a token in {TOKEN_VARIABLE} or --token-file, "
            "or leave --host out"
        )
    logging.basicConfig(format="serve: %(message)s", level=logging.WARNING)
    try:
        if settings.engine == "ray":
            _on_ray(settings, token)
        else:
            _on_uvicorn(settings, token)
    except KeyboardInterrupt:  # the usual way to end it
        say("stopped")


def run_options(settings: ServeSettings) -> RunOptions:
    """Return how the run is opened."""
    from semcore.serving.served_run import RunOptions

    return RunOptions(
        settings.run.absolute(),
        None if settings.data is None else settings.data.absolute(),
        settings.split,
        settings.base,
        tuple(settings.allowed),
        settings.prior_weight,
        settings.device,
        settings.dtype,
    )


def read_token(path: Path | None) -> str | None:
    """Return the token that requests have to bring, None where none is set.

    Raises:
        UserError: the file cannot be read, or holds no token.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = read_text(path).strip()
    except OSError as error:
        raise UserError(f"--token-file {path} cannot be read: {error.strerror}") from None
    if not token or not token.isascii() or len(token.split()) != 1:
        raise UserError(f"--token-file {path} must hold one word of ASCII letters and digits, the token")
    return token


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _on_uvicorn(settings: ServeSettings, token: str | None) -> None:
    from semcore.serving.uvicorn_engine import run_uvicorn, take_port

    taken = take_port(settings.host, settings.port)
    with taken:
        from semcore.serving.app import create_app
        from semcore.serving.backend import LocalBackend
        from semcore.serving.corpus_keeper import CorpusKeeper
        from semcore.serving.served_run import ServedRun
        from semcore.serving.service import Service

        options, limits = run_options(settings), settings.limits
        served = ServedRun.open(options)
        keeper = CorpusKeeper(options, served.retriever.generator)
        service = Service(
            settings.run.absolute().name,
            lambda metrics: LocalBackend(served, keeper, limits, metrics.observe_batch),
            limits,
            token,
            _read_only(settings),
        )
        counts = ", ".join(f"{number:,} {way.item_kind}" for way, number in served.num_items().items())
        address = _address(settings.host, taken.getsockname()[1])
        run_uvicorn(
            create_app(service),
            taken,
            stop_within_s=limits.timeout_s,
            on_ready=lambda: say(f"{address} searches {counts}; Ctrl-C ends it"),
        )


def _on_ray(settings: ServeSettings, token: str | None) -> None:
    from semcore.serving.ray_engine import Plan, run_ray
    from semcore.serving.uvicorn_engine import take_port

    with take_port(settings.host, settings.port) as taken:  # a port in use is said at once
        port = taken.getsockname()[1]
    plan = Plan(
        run_options(settings), settings.limits, token, _read_only(settings), settings.replicas, settings.max_replicas
    )
    run_ray(
        plan, settings.host, port, settings.ray_address,
        on_ready=lambda: say(f"{_address(settings.host, port)} searches on Ray; Ctrl-C ends it"),
    )  # fmt: skip


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _read_only(settings: ServeSettings) -> str:
    """Return why items are neither added nor removed; empty where they are."""
    if settings.read_only:
        return "this server adds and removes no items: it was started with --read-only"
    if settings.split != "all":
        return f"this server searches split {settings.split}, to which nothing is added: start it without --split"
    return ""


def _check_libraries(engine: str) -> None:
    """Refuse where an extra is not installed."""
    try:
        import fastapi
        import prometheus_client
        import uvicorn

        del fastapi, prometheus_client, uvicorn
        if engine == "ray":
            import ray.serve

            del ray
    except ImportError as error:
        extra = "ray" if str(error.name).startswith("ray") else "serve"
        raise UserError(f"semcore serve needs the library {error.name}: pip install 'semcore[{extra}]'") from None
