"""Bodies of requests and responses, as the API's OpenAPI document describes them."""

from __future__ import annotations

from dataclasses import asdict
from itertools import zip_longest
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from semcore.data.dataset import MAX_ID_LETTERS
from semcore.retrieval.corpus_updates import Addition
from semcore.serving.queries import Answer, ItemRecord


class Strict(BaseModel):
    """A body in which an unknown field is an error, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _whole(value: Any) -> Any:
    """Return a number such as 10.0, which is an integer in JSON Schema, as one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_whole)]


class SearchByText(Strict):
    """Search images by a sentence, or by several."""

    text: str | list[str] = Field(description="A sentence, or a list of them.", examples=["a red circle"])
    top_k: WholeNumber = Field(default=10, ge=1, description="Hits of each query, at most.")
    explain: bool = Field(default=False, description="Say of each hit why it was found; for few hits in all.")


class SearchByImage(Strict):
    """Search sentences by a picture, or by several."""

    image: str | list[str] = Field(
        description="The file of a picture in base64, as such or in a data URL; or a list of them."
    )
    top_k: WholeNumber = Field(default=10, ge=1, description="Hits of each query, at most.")
    explain: bool = Field(default=False, description="Say of each hit why it was found; for few hits in all.")


def _kind_of(body: Any) -> str | None:
    """Return which of the two bodies is meant, None for neither or both."""
    if isinstance(body, BaseModel):
        return "image" if isinstance(body, SearchByImage) else "text"
    given = [name for name in ("text", "image") if isinstance(body, dict) and name in body]
    return given[0] if len(given) == 1 else None


SearchBody = Annotated[
    Annotated[SearchByText, Tag("text")] | Annotated[SearchByImage, Tag("image")],
    Discriminator(
        _kind_of,
        custom_error_type="one_query",
        custom_error_message='the body must be a JSON object with either "text" or "image"',
    ),
]


class HitBody(BaseModel):
    """A ranked item."""

    rank: int = Field(description="From 1.")
    item_id: str
    score: float = Field(description="Higher is better; comparable within one query only.")
    confidence: float | None = Field(
        description="The probability, 0 to 1, that the item answers the query; null where nothing was fitted."
    )
    identifier: str = Field(description="What the model generated to find it.")
    text: str | None = Field(description="The sentence; null for an image.")
    image_url: str | None = Field(description="Where this server has the image; null for a sentence.")
    explanation: dict[str, Any] | None = Field(description="Why it was found; null unless asked for.")


class NoMatchBody(BaseModel):
    """What a search has decided on: there is no match where the value is below the threshold."""

    of: str = Field(description='What is compared: "log_sum_exp", of the scores of all candidates that were verified.')
    value: float = Field(description="What it is for this query.")
    below: float = Field(description="The threshold, fitted on val.")


class QueryBody(BaseModel):
    """The answer to one query."""

    hits: list[HitBody] = Field(description="Best first.")
    no_match: bool | None = Field(
        description="Whether the search holds that no item answers the query; null where no threshold was fitted."
    )
    no_match_by: NoMatchBody | None = Field(description="What that was decided on; null where it was not.")
    notes: list[str] = Field(description="What is to be known about scores and confidence.")


class BatchBody(BaseModel):
    """The answers to a list of queries, in their order."""

    results: list[QueryBody]


class ItemBody(BaseModel):
    """An item of the run."""

    item_id: str
    kind: str = Field(description='"image" or "sentence".')
    image_id: str = Field(description="The image itself, or the one that a sentence was written about.")
    identifier: str
    keywords: str
    text: str | None
    image_url: str | None


class NewItem(Strict):
    """An image to add, with what is said about it."""

    image_id: str = Field(
        pattern=r"^[A-Za-z0-9_-]+$", max_length=MAX_ID_LETTERS, description="An id that no other image has."
    )
    image: str = Field(description="The picture's file in base64, as such or in a data URL.")
    sentences: list[str] = Field([], description="Each becomes an item that pictures find.")
    caption: str = Field("", description="What the identifier is made from; by default the run's captioner writes it.")


class AddBody(Strict):
    """Images to add, all at once."""

    items: list[NewItem]


class AddedItem(BaseModel):
    """An image that was added."""

    item_id: str
    identifier: str
    caption: str
    sentence_ids: list[str] = Field(description="The items that its sentences have become.")


class AddedBody(BaseModel):
    """What has become of images that were to be added."""

    added: list[AddedItem]
    already: list[str] = Field(description="Ids of those that were there before, with the same picture.")
    left_out: dict[str, str] = Field(description="Id to reason, of those that cannot be read or got no caption.")


class RemovedBody(BaseModel):
    """What was removed."""

    removed: list[str] = Field(description="The ids that were asked for; an image's sentences went with it.")


class HealthBody(BaseModel):
    """The state of the server."""

    status: str = Field(description='"ok" or "failing".')
    detail: str
    version: str
    run: str = Field(description="The name of the run's folder.")
    num_items: dict[str, int] = Field(description="Direction, t2i or i2t, to the items that it finds.")
    num_waiting: int = Field(description="Queries in the queue.")


class ProblemBody(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="What is wrong, in a sentence.")
    code: str = Field(description="A word for machines.")


def image_url(image_id: str) -> str:
    """Return where the server has an image."""
    return f"/images/{image_id}"


def query_body(answer: Answer) -> QueryBody:
    """Return an answer as a body."""
    hits = [
        HitBody(
            rank=rank,
            item_id=hit.item_id,
            score=hit.score,
            confidence=hit.confidence,
            identifier=hit.identifier,
            text=hit.text,
            image_url=None if hit.image_path is None else image_url(hit.item_id),
            explanation=explanation,
        )
        for rank, (hit, explanation) in enumerate(zip_longest(answer.hits, answer.explanations), start=1)
    ]
    basis = None if answer.no_match_by is None else NoMatchBody(**asdict(answer.no_match_by))
    return QueryBody(hits=hits, no_match=answer.no_match, no_match_by=basis, notes=list(answer.notes))


def item_body(item: ItemRecord) -> ItemBody:
    """Return an item as a body."""
    is_image = item.direction.items_are_images
    return ItemBody(
        item_id=item.item_id,
        kind="image" if is_image else "sentence",
        image_id=item.image_id,
        identifier=item.identifier,
        keywords=item.keywords,
        text=item.text,
        image_url=image_url(item.item_id) if is_image else None,
    )


def added_body(done: Addition) -> AddedBody:
    """Return an addition as a body."""
    added = [
        AddedItem(
            item_id=own.image_id,
            identifier=own.row["identifier"],
            caption=own.caption,
            sentence_ids=[sentence.sentence_id for sentence in own.sentences],
        )
        for own in done.added
    ]
    return AddedBody(added=added, already=done.already, left_out=done.left_out)
