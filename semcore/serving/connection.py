"""Work for a client that may go, or wait for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from semcore.serving.problems import Refusal, late
from semcore.serving.service import Service

T = TypeVar("T")
CLIENT_CLOSED = 499  # nobody reads it; the log and the metrics do


async def while_connected(request: Request, service: Service, work: Awaitable[T], *, waits: bool = False) -> T:
    """Return the result of some work, which ends early where the client goes or the time is up.

    Args:
        request: whose client is watched.
        service: has the limit of time.
        work: what is done.
        waits: do not look at the time: a change of the corpus takes as long as its captions, and goes on in any case.

    Raises:
        Refusal: the time is up; or the client has gone, and nobody reads this.
    """
    working: asyncio.Future[T] = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait(
            (working, gone), timeout=None if waits else service.limits.timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if working.done():
            return working.result()
        if gone.done():
            service.metrics.gone.inc()
            raise Refusal(CLIENT_CLOSED, "client_gone", "the client has gone")
        raise late(service.limits.timeout_s)
    finally:
        for task in (working, gone):
            task.cancel()


async def _gone(request: Request) -> None:
    """Return when the client has gone; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
