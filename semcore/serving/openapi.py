"""The OpenAPI document, with this server's own limits and, where it wants one, its token."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from semcore.serving.guards import OPEN
from semcore.serving.limits import Limits
from semcore.serving.schemas import ProblemBody

_MEANINGS = {
    401: "The token is missing or wrong.",
    403: "Items are neither added nor removed here.",
    404: "There is no such thing.",
    405: "The route does not take this method.",
    408: "The body came too slowly.",
    409: "What is there does not allow the change.",
    413: "The request is over a limit of size.",
    415: "The body is not JSON.",
    422: "The request cannot be answered as it is.",
    429: "The client sends more than it may; Retry-After says when to ask again.",
    500: "The server made a mistake.",
    501: "The run cannot be searched in this direction.",
    503: "The queue is full, or the server is stopping; Retry-After says when to ask again.",
    504: "There was no answer in time.",
    507: "The disk is full; nothing was changed.",
}
_PICTURE = {"minLength": 1, "format": "byte", "contentEncoding": "base64", "contentMediaType": "image/*"}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemBody, "description": meaning} for status, meaning in _MEANINGS.items()
}


def describe(app: FastAPI, limits: Limits, *, needs_token: bool) -> None:
    """Make the application's document say its limits and its token.

    Args:
        app: the application, with all routes.
        limits: of this server.
        needs_token: whether requests have to bring one.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            _say_limits(schema["components"]["schemas"], limits)
            if needs_token:
                _say_token(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _say_limits(schemas: dict[str, Any], limits: Limits) -> None:
    for name, field in (("SearchByText", "text"), ("SearchByImage", "image")):
        properties = schemas[name]["properties"]
        properties["top_k"]["maximum"] = limits.max_top_k
        one, several = properties[field]["anyOf"]
        several |= {"minItems": 1, "maxItems": limits.max_queries}
        for text in (one, several["items"]):
            if field == "text":
                text |= {"minLength": 1, "maxLength": limits.max_letters}
            else:
                text |= _PICTURE

    schemas["AddBody"]["properties"]["items"] |= {"minItems": 1, "maxItems": limits.max_queries}
    properties = schemas["NewItem"]["properties"]
    properties["image"] |= _PICTURE
    properties["sentences"]["items"] |= {"minLength": 1, "maxLength": limits.max_letters}
    properties["caption"]["maxLength"] = limits.max_letters


def _say_token(schema: dict[str, Any]) -> None:
    schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        if path not in OPEN:
            for operation in operations.values():
                operation["security"] = [{"token": []}]
