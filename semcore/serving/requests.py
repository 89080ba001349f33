"""Requests made into queries: held to the limits, with one sentence about what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from semcore.data.dataset import is_safe_id, make_safe_id
from semcore.data.new_images import NewImage
from semcore.runtime.text import clean_text
from semcore.serving.limits import MOST_EXPLAINED, Limits
from semcore.serving.pictures import picture_bytes
from semcore.serving.problems import invalid
from semcore.serving.queries import ServedQuery
from semcore.serving.schemas import AddBody, SearchByImage, SearchByText


def queries_of(body: SearchByText | SearchByImage, limits: Limits) -> list[ServedQuery]:
    """Return the queries of a search.

    Raises:
        Refusal: there is none, one is over a limit, or a picture cannot be read.
    """
    if body.top_k > limits.max_top_k:
        raise invalid(f"top_k is {body.top_k}, and at most {limits.max_top_k} hits are returned")
    given = body.text if isinstance(body, SearchByText) else body.image
    entries = given if isinstance(given, list) else [given]
    _check_number(len(entries), limits.max_queries, "queries")
    if body.explain and body.top_k * len(entries) > MOST_EXPLAINED:
        raise invalid(
            f"{body.top_k * len(entries):,} hits would have to be explained, and {MOST_EXPLAINED} may in one "
            "request; give a smaller top_k"
        )
    names = [f"query {number}" for number, _ in enumerate(entries, start=1)] if isinstance(given, list) else None
    if isinstance(body, SearchByText):
        kind = names or ["the text"]
        return [
            ServedQuery(text=_sentence(text, limits.max_letters, name), top_k=body.top_k, explain=body.explain)
            for text, name in zip(entries, kind, strict=True)
        ]
    return [
        ServedQuery(picture=picture_bytes(entry, limits.max_pixels, name), top_k=body.top_k, explain=body.explain)
        for entry, name in zip(entries, names or ["the picture"], strict=True)
    ]


def images_of(body: AddBody, limits: Limits) -> list[NewImage]:
    """Return the images of an addition.

    Raises:
        Refusal: there is none, an id is not safe or stands twice, or something is over a limit.
    """
    _check_number(len(body.items), limits.max_queries, "items")
    ids = Counter(item.image_id for item in body.items)
    for image_id, number in ids.items():
        if not is_safe_id(image_id):
            raise invalid(f"image_id {image_id!r} has a split's name in it; {make_safe_id(image_id)!r} would do")
        if number > 1:
            raise invalid(f"image_id {image_id!r} is given {number} times; give every image its own")
    return [
        NewImage(
            item.image_id,
            picture_bytes(item.image, limits.max_pixels, f"the picture of {item.image_id}"),
            tuple(_sentence(text, limits.max_letters, f"a sentence of {item.image_id}") for text in item.sentences),
            _short(item.caption, limits.max_letters, f"the caption of {item.image_id}"),
            "added over HTTP",
        )
        for item in body.items
    ]


def ids_of(item_ids: Sequence[str], limits: Limits) -> list[str]:
    """Return the ids of a removal, each once.

    Raises:
        Refusal: there is none, or there are too many.
    """
    _check_number(len(item_ids), limits.max_queries, "items")
    return list(dict.fromkeys(item_ids))


def _check_number(number: int, most: int, what: str) -> None:
    if not number:
        raise invalid(f"the list of {what} is empty; give at least one")
    if number > most:
        raise invalid(f"the request has {number:,} {what}, and {most} may come in one; send several")


def _short(text: str, max_letters: int, name: str) -> str:
    if len(text) > max_letters:
        raise invalid(f"{name} has {len(text):,} letters, and {max_letters:,} may; give a sentence")
    return clean_text(text)


def _sentence(text: str, max_letters: int, name: str) -> str:
    cleaned = _short(text, max_letters, name)
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
