"""The application: routes over a backend, the same one whatever serves it."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, TypeVar

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from semcore import __version__
from semcore.data.directions import Direction
from semcore.serving.backend import Backend
from semcore.serving.guards import Guards, client_of, refused
from semcore.serving.limits import Limits, RateLimiter
from semcore.serving.metrics import Metrics
from semcore.serving.openapi import PROBLEMS, describe
from semcore.serving.problems import Refusal, invalid, late, not_found, read_only
from semcore.serving.requests import ids_of, images_of, queries_of, sentence_of
from semcore.serving.schemas import (
    AddBody,
    AddedBody,
    BatchBody,
    HealthBody,
    ItemBody,
    QueryBody,
    RemovedBody,
    SearchBody,
    SearchByText,
    added_body,
    item_body,
    query_body,
)

T = TypeVar("T")
CLIENT_CLOSED = 499  # nobody reads it; the log and the metrics do
ItemIds = Annotated[list[str], Query(description="Ids of images and sentences; ?item_id=a&item_id=b.")]
ItemId = Annotated[str, Path(description="An image's or a sentence's id.")]


@dataclass
class Service:
    """What the routes share.

    Attributes:
        name: of the run's folder.
        open_backend: makes the backend, told where batches are recorded, when the server starts.
        limits: of requests.
        token: what a request has to bring, None for nothing.
        read_only: why items are neither added nor removed; empty where they are.
    """

    name: str
    open_backend: Callable[[Metrics], Backend]
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    read_only: str = ""
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.rate = RateLimiter(self.limits.rate, self.limits.burst)
        self._backend: Backend | None = None

    @property
    def backend(self) -> Backend:
        """Return the backend; there is one once the server has started."""
        if self._backend is None:
            self._backend = self.open_backend(self.metrics)
        return self._backend

    async def close(self) -> None:
        """Answer what waits, and end."""
        if self._backend is not None:
            await self._backend.close()


def create_app(service: Service) -> FastAPI:
    """Return the application.

    It has no page of documentation: FastAPI's own fetch scripts from elsewhere. /openapi.json describes it.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(
        title="semcore",
        version=__version__,
        summary="Search of a run by sentences and pictures.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    _add_search(app, service)
    _add_items(app, service)
    _add_changes(app, service)
    _add_state(app, service)
    _add_refusals(app)
    describe(app, service.limits, needs_token=service.token is not None)
    app.add_middleware(Guards, limits=service.limits, rate=service.rate, metrics=service.metrics, token=service.token)
    return app


def _add_search(app: FastAPI, service: Service) -> None:
    @app.post("/search", operation_id="search", responses=PROBLEMS)
    async def search(request: Request, body: SearchBody) -> QueryBody | BatchBody:
        """Return the best items of each query: images for a sentence, sentences for a picture."""
        queries = await asyncio.to_thread(queries_of, body, service.limits)
        service.rate.charge(client_of(request.scope), len(queries) - 1)
        answers = await _while_connected(request, service, service.backend.search(queries))
        direction = queries[0].direction
        service.metrics.queries.labels(str(direction)).inc(len(queries))
        is_list = isinstance(body.text if isinstance(body, SearchByText) else body.image, list)
        found = [query_body(answer) for answer in answers]
        return BatchBody(results=found) if is_list else found[0]


def _add_items(app: FastAPI, service: Service) -> None:
    @app.get("/items/{item_id:path}", operation_id="get_item", responses=PROBLEMS)
    async def get_item(item_id: ItemId) -> ItemBody:
        """Return an item: an image, or a sentence."""
        item = await service.backend.item(item_id)
        if item is None:
            raise not_found(f"there is no item {item_id!r}")
        return item_body(item)

    @app.get(
        "/images/{image_id}",
        operation_id="get_image",
        response_class=FileResponse,
        responses={**PROBLEMS, 200: {"content": {"image/*": {}}, "description": "The image's file."}},
    )
    async def get_image(image_id: ItemId) -> Response:
        """Return an image's file."""
        path = await service.backend.image_path(image_id)
        if path is None or not path.is_file():
            raise not_found(f"there is no image {image_id!r}")
        kind = mimetypes.guess_type(path.name)[0] or ""
        return FileResponse(path, media_type=kind if kind.startswith("image/") else "application/octet-stream")


def _add_changes(app: FastAPI, service: Service) -> None:
    def check_writable() -> None:
        if service.read_only:
            raise read_only(service.read_only)

    async def removed(request: Request, item_ids: list[str]) -> RemovedBody:
        check_writable()
        wanted = ids_of(item_ids, service.limits)
        await _while_connected(request, service, service.backend.remove(wanted), waits=True)
        return RemovedBody(removed=wanted)

    @app.post("/items", operation_id="add_items", status_code=201, responses=PROBLEMS)
    async def add_items(request: Request, body: AddBody) -> AddedBody:
        """Add images, all at once: they are found from the answer on, and after a restart."""
        check_writable()
        images = await asyncio.to_thread(images_of, body, service.limits)
        return added_body(await _while_connected(request, service, service.backend.add(images), waits=True))

    @app.delete("/items", operation_id="remove_items", responses=PROBLEMS)
    async def remove_items(request: Request, item_id: ItemIds) -> RemovedBody:
        """Remove images, with their sentences, and sentences, all at once."""
        return await removed(request, item_id)

    @app.delete("/items/{item_id:path}", operation_id="remove_item", responses=PROBLEMS)
    async def remove_item(request: Request, item_id: ItemId) -> RemovedBody:
        """Remove an image, with its sentences, or a sentence."""
        return await removed(request, [item_id])


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health", operation_id="health", responses={503: {"model": HealthBody}})
    async def health(response: Response) -> HealthBody:
        """Say whether searches are answered."""
        state = await service.backend.health()
        if not state.is_ok:
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return HealthBody(
            status="ok" if state.is_ok else "failing",
            detail=state.detail,
            version=__version__,
            run=service.name,
            num_items=state.num_items,
            num_waiting=state.num_waiting,
        )

    @app.get(
        "/metrics",
        operation_id="metrics",
        response_class=Response,
        responses={
            **PROBLEMS,
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics."},
        },
    )
    async def metrics() -> Response:
        """Return the metrics, in Prometheus' text format."""
        state = await service.backend.health()
        service.metrics.waiting.set(state.num_waiting)
        for direction in Direction:
            service.metrics.items.labels(str(direction)).set(state.num_items.get(str(direction), 0))
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def count(refusal: Refusal) -> None:
        service.metrics.refusals.labels(refusal.code).inc()

    app.state.count_refusal = count


def _add_refusals(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refusal(_request: Request, error: Refusal) -> Response:
        app.state.count_refusal(error)
        return refused(error)

    @app.exception_handler(RequestValidationError)
    async def wrong_body(request: Request, error: RequestValidationError) -> Response:
        return await refusal(request, invalid(sentence_of(error.errors())))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        cause = error.__cause__
        if isinstance(cause, Refusal):  # FastAPI wraps what reading a body raises
            return await refusal(request, cause)
        if error.status_code == HTTPStatus.BAD_REQUEST:
            reason = "it is not in UTF-8" if isinstance(cause, UnicodeDecodeError) else "it is nested too deeply"
            return await refusal(request, invalid(f"the body is not valid JSON: {reason}"))
        sentences = {
            404: f"there is nothing at {request.url.path}; /openapi.json says what there is",
            405: f"{request.url.path} takes no {request.method}; /openapi.json says what it takes",
        }
        codes = {404: "not_found", 405: "wrong_method"}
        status = error.status_code
        own = Refusal(status, codes.get(status, "invalid"), sentences.get(status, str(error.detail)))
        response = await refusal(request, own)
        response.headers.update(error.headers or {})
        return response


async def _while_connected(request: Request, service: Service, work: Awaitable[T], *, waits: bool = False) -> T:
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
