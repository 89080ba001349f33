"""Routes of the application, each over the service's backend."""

from __future__ import annotations

import asyncio
import mimetypes
from http import HTTPStatus
from typing import Annotated

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.responses import FileResponse

from semcore import __version__
from semcore.data.directions import Direction
from semcore.serving.connection import while_connected
from semcore.serving.guards import client_of
from semcore.serving.openapi import PROBLEMS
from semcore.serving.problems import not_found, read_only
from semcore.serving.requests import ids_of, images_of, queries_of
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
from semcore.serving.service import Service

ItemIds = Annotated[list[str], Query(description="Ids of images and sentences; ?item_id=a&item_id=b.")]
ItemId = Annotated[str, Path(description="An image's or a sentence's id.")]


def add_search(app: FastAPI, service: Service) -> None:
    """Add POST /search."""

    @app.post("/search", operation_id="search", responses=PROBLEMS)
    async def search(request: Request, body: SearchBody) -> QueryBody | BatchBody:
        """Return the best items of each query: images for a sentence, sentences for a picture."""
        queries = await asyncio.to_thread(queries_of, body, service.limits)
        service.rate.charge(client_of(request.scope), len(queries) - 1)
        answers = await while_connected(request, service, service.backend.search(queries))
        direction = queries[0].direction
        service.metrics.queries.labels(str(direction)).inc(len(queries))
        is_list = isinstance(body.text if isinstance(body, SearchByText) else body.image, list)
        found = [query_body(answer) for answer in answers]
        return BatchBody(results=found) if is_list else found[0]


def add_items(app: FastAPI, service: Service) -> None:
    """Add GET /items/{id} and GET /images/{id}."""

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


def add_changes(app: FastAPI, service: Service) -> None:
    """Add POST and DELETE /items."""

    def check_writable() -> None:
        if service.read_only:
            raise read_only(service.read_only)

    async def removed(request: Request, item_ids: list[str]) -> RemovedBody:
        check_writable()
        wanted = ids_of(item_ids, service.limits)
        await while_connected(request, service, service.backend.remove(wanted), waits=True)
        return RemovedBody(removed=wanted)

    nothing_new = {"model": AddedBody, "description": "None was added: all were there, or were left out."}

    @app.post("/items", operation_id="add_items", status_code=201, responses={**PROBLEMS, 200: nothing_new})
    async def add_items(request: Request, response: Response, body: AddBody) -> AddedBody:
        """Add images, all at once: they are found from the answer on, and after a restart."""
        check_writable()
        images = await asyncio.to_thread(images_of, body, service.limits)
        done = await while_connected(request, service, service.backend.add(images), waits=True)
        if not done.added:
            response.status_code = HTTPStatus.OK
        return added_body(done)

    @app.delete("/items", operation_id="remove_items", responses=PROBLEMS)
    async def remove_items(request: Request, item_id: ItemIds) -> RemovedBody:
        """Remove images, with their sentences, and sentences, all at once."""
        return await removed(request, item_id)

    @app.delete("/items/{item_id:path}", operation_id="remove_item", responses=PROBLEMS)
    async def remove_item(request: Request, item_id: ItemId) -> RemovedBody:
        """Remove an image, with its sentences, or a sentence."""
        return await removed(request, [item_id])


def add_state(app: FastAPI, service: Service) -> None:
    """Add GET /health and GET /metrics."""

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
