"""Guards before the routes: measuring, the token, the rate, the size of a body and the time it may take to come in.

They are plain ASGI, so that a body that is too large is never held, and a client that has gone is noticed.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semcore.serving.limits import Limits, RateLimiter, whole_seconds
from semcore.serving.metrics import Metrics
from semcore.serving.problems import Refusal, failed, too_large

logger = logging.getLogger(__name__)
OPEN = frozenset({"/health", "/openapi.json"})
"""What needs no token: it says nothing that is not known, and load balancers have none."""

JSON_ROUTES = frozenset({"/search", "/items"})
"""What takes a body; no page of another site can send one of this type without being allowed to."""


def refused(refusal: Refusal) -> JSONResponse:
    """Return a refusal as a response."""
    headers = {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(whole_seconds(refusal.retry_after_s))
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": refusal.sentence, "code": refusal.code}, refusal.status, headers)


class Guards:
    """The outermost layer of the application.

    Args:
        app: what is guarded.
        limits: of body and rate.
        rate: the clients' buckets.
        metrics: is told of every request.
        token: what a request has to bring, None for nothing.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, rate: RateLimiter, metrics: Metrics, token: str | None):
        self._app, self._limits, self._rate, self._metrics, self._token = app, limits, rate, metrics, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none (the start and the end of the server)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), HTTPStatus.INTERNAL_SERVER_ERROR.value
        started = False

        async def sending(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        self._metrics.in_flight.inc()
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refused(refusal)(scope, receive, sending)
                self._metrics.refusals.labels(refusal.code).inc()
            else:
                await self._app(scope, self._bounded(receive), sending)
        except Exception:
            logger.exception("a request failed")
            if not started:
                await refused(failed())(scope, receive, sending)
        finally:
            self._metrics.in_flight.dec()
            self._record(scope, status, time.perf_counter() - begun)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers, path = Headers(scope=scope), scope["path"]
        if self._token is not None and path not in OPEN and not self._has_token(headers):
            sentence = "this server wants a token: send the header Authorization: Bearer TOKEN"
            return Refusal(HTTPStatus.UNAUTHORIZED, "no_token", sentence)
        if path not in OPEN and path != "/metrics":
            seconds = self._rate.wait_s(client_of(scope))
            if seconds:
                return too_many(self._rate, seconds)
        if scope["method"] == "POST" and path in JSON_ROUTES and not _is_json(headers):
            sentence = "the body must be JSON: send the header Content-Type: application/json, and nothing compressed"
            return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "no_json", sentence)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limits.max_body_bytes:
            return self._too_large(int(length))
        return None

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), (self._token or "").encode())

    def _too_large(self, num_bytes: int) -> Refusal:
        most = self._limits.max_body_bytes
        return too_large(
            f"the body has {num_bytes:,} bytes or more, and {most:,} may; send fewer queries, or smaller pictures"
        )

    def _bounded(self, receive: Receive) -> Receive:
        """Return a `receive` that ends a body that is too large or comes too slowly with a refusal."""
        num_bytes, is_complete = 0, False
        deadline = time.monotonic() + self._limits.timeout_s

        async def bounded() -> Message:
            nonlocal num_bytes, is_complete
            if is_complete:  # then what comes is that the client has gone
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                most = self._limits.timeout_s
                sentence = f"the body did not come within {most:g} s; send less, or over a faster line"
                raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "slow_body", sentence) from None
            num_bytes += len(message.get("body", b""))
            is_complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
            if num_bytes > self._limits.max_body_bytes:
                raise self._too_large(num_bytes)
            return message

        return bounded

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        name = getattr(route, "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE") else "other"
        self._metrics.requests.labels(method, name, str(status)).inc()
        self._metrics.seconds.labels(method, name).observe(seconds)


def _is_json(headers: Headers) -> bool:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" and headers.get("content-encoding", "identity").lower() == "identity"


def client_of(scope: Scope) -> str:
    """Return the address of a request's client."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def too_many(rate: RateLimiter, seconds: float) -> Refusal:
    """Return the refusal of a client that sends more than it may."""
    sentence = f"more than {rate.rate:g} queries a second from one client; ask again in {seconds:.1f} s"
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too_many", sentence, seconds)
