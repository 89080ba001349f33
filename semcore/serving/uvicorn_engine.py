"""The application on uvicorn, in one process; its port is taken before the models are loaded."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from semcore.runtime.errors import UserError

KEEP_ALIVE_S = 75  # ours: longer than a search takes, so that no client's connection ends while it waits for others
_IN_USE = "port {port} of {host} is in use; end what listens there, or choose another --port"


def take_port(host: str, port: int) -> socket.socket:
    """Return a socket that is bound and does not listen yet: who connects before the models are loaded is refused.

    Args:
        host: a name or an address.
        port: 0 for any that is free.

    Raises:
        UserError: the port is in use, or may not be taken; or there is no such host.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except socket.gaierror:
        raise UserError(
            f"there is no host {host!r} here; give --host 127.0.0.1, or an address of this machine"
        ) from None
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise UserError(_IN_USE.format(port=port, host=host)) from None
        raise UserError(f"port {port} of {host} cannot be taken ({error}); choose another --port") from None
    return taken


def run_uvicorn(app: FastAPI, taken: socket.socket, *, stop_within_s: float, on_ready: Callable[[], None]) -> None:
    """Serve until the process is told to stop; requests that are being answered then are answered.

    Args:
        app: the application.
        taken: from `take_port`.
        stop_within_s: seconds that a stop may take.
        on_ready: is called when connections are accepted.

    Raises:
        UserError: another process has begun to listen on the port in the meantime.
    """
    config = make_config(app, stop_within_s)
    host, port = taken.getsockname()[:2]
    try:
        taken.listen(config.backlog)
    except OSError:
        raise UserError(_IN_USE.format(port=port, host=host)) from None
    _Server(config, on_ready).run(sockets=[taken])


def make_config(app: FastAPI, stop_within_s: float) -> uvicorn.Config:
    """Return uvicorn's settings; arguments as for `run_uvicorn`."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a client's address is not what it says of itself: the rate is counted by it
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(stop_within_s)),
    )


class _Server(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]):
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()
