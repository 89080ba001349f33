"""The application: routes over a backend, the same one whatever serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from semcore import __version__
from semcore.serving.error_handlers import add_error_handlers
from semcore.serving.guards import Guards
from semcore.serving.openapi import describe
from semcore.serving.routes import add_changes, add_items, add_search, add_state
from semcore.serving.service import Service


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
    add_search(app, service)
    add_items(app, service)
    add_changes(app, service)
    add_state(app, service)
    add_error_handlers(app, service)
    describe(app, service.limits, needs_token=service.token is not None)
    app.add_middleware(Guards, limits=service.limits, rate=service.rate, metrics=service.metrics, token=service.token)
    return app
