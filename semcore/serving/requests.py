"""Requests made into queries: held to the limits, with one sentence about what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semcore.runtime.text import clean_text
from semcore.serving.limits import Limits
from semcore.serving.pictures import picture_bytes
from semcore.serving.problems import invalid
from semcore.serving.queries import ServedQuery
from semcore.serving.schemas import SearchByImage, SearchByText


def queries_of(body: SearchByText | SearchByImage, limits: Limits) -> list[ServedQuery]:
    """Return the queries of a search.

    Raises:
        Refusal: there is none, one is over a limit, or a picture cannot be read.
    """
    if body.top_k > limits.max_top_k:
        raise invalid(f"top_k is {body.top_k}, and at most {limits.max_top_k} hits are returned")
    given = body.text if isinstance(body, SearchByText) else body.image
    entries = given if isinstance(given, list) else [given]
    if not entries:
        raise invalid("the list of queries is empty; give at least one")
    if len(entries) > limits.max_queries:
        raise invalid(
            f"the request has {len(entries):,} queries, and {limits.max_queries} may come in one; send several"
        )
    names = [f"query {number}" for number, _ in enumerate(entries, start=1)] if isinstance(given, list) else None
    if isinstance(body, SearchByText):
        kind = names or ["the text"]
        return [
            ServedQuery(text=_sentence(text, limits.max_letters, name), top_k=body.top_k)
            for text, name in zip(entries, kind, strict=True)
        ]
    return [
        ServedQuery(picture=picture_bytes(entry, limits.max_pixels, name), top_k=body.top_k)
        for entry, name in zip(entries, names or ["the picture"], strict=True)
    ]


def _sentence(text: str, max_letters: int, name: str) -> str:
    if len(text) > max_letters:
        raise invalid(f"{name} has {len(text):,} letters, and {max_letters:,} may; give a sentence")
    cleaned = clean_text(text)
    if not cleaned:
        raise invalid(f"{name} is empty; give a sentence")
    return cleaned


def sentence_of(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return what is wrong with a body, or a parameter, as one sentence.

    Args:
        errors: what pydantic found.
    """
    first = errors[0]
    if first["type"] == "json_invalid":
        return f"the body is not valid JSON: {first.get('ctx', {}).get('error', first['msg'])}"
    if first["type"] == "one_query":
        return str(first["msg"])
    place = [str(part) for part in first["loc"][1:]]
    if first["loc"][0] == "body" and place[:1] in (["text"], ["image"]):  # which of the two bodies it is
        place = place[1:]
    if place[:1] in (["text"], ["image"]) and first["type"] != "missing":
        return f"{place[0]}: a string, or a list of strings, is needed"
    message = str(first["msg"])
    return f"{'.'.join(place) or 'the body'}: {message[:1].lower()}{message[1:]}"
