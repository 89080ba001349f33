"""Errors as responses: every one is a sentence and a code, whoever raised it."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from semcore.serving.guards import refused
from semcore.serving.problems import Refusal, invalid
from semcore.serving.requests import sentence_of
from semcore.serving.service import Service


def add_error_handlers(app: FastAPI, service: Service) -> None:
    """Make the application answer errors with a `ProblemBody`."""

    @app.exception_handler(Refusal)
    async def refusal(_request: Request, error: Refusal) -> Response:
        service.metrics.refusals.labels(error.code).inc()
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
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = ", ".join(_methods_at(app, request))
        return response


def _methods_at(app: FastAPI, request: Request) -> list[str]:
    """Return the methods that the routes of a path take; the framework names those of the first route alone."""
    here = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in here for method in getattr(route, "methods", None) or ()})
