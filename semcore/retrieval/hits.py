"""Hits: items as the generator ranks them, and as a search returns them. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

from semcore.data.items_and_queries import Item
from semcore.runtime.errors import UserError


class GeneratedHit(NamedTuple):
    """A hit of the generator: the item's id, its identifier, the path's score, and what a guide has added to it."""

    item_id: str
    identifier: str
    score: float
    guide: float | None = None


def without_prior(
    hits: Sequence[GeneratedHit], log_priors: Mapping[str, float], weight: float, most: int | None = None
) -> list[GeneratedHit]:
    """Take a share of the identifiers' prior off the scores and put the hits in their new order.

    Items of one identifier have one prior, so they stay together in their order; of other equal scores the one that
    stood before stands before. A weight of 0 changes nothing.

    Args:
        hits: what a search has found, best first.
        log_priors: identifier -> log p(identifier).
        weight: how much of it comes off.
        most: hits to return, all by default.
    """
    corrected = [hit._replace(score=hit.score - weight * log_priors[hit.identifier]) for hit in hits]
    return merged(sorted(corrected, key=lambda hit: -hit.score))[:most]


def merged(hits: Sequence[GeneratedHit]) -> list[GeneratedHit]:
    """Return each item once: an item of several identifiers scores log of the sum of their probabilities.

    Its identifier is then its best one. Hits of different items alone are returned as they are.

    Args:
        hits: best first; an item may be there once for each of its identifiers.
    """
    scores: dict[str, list[float]] = {}
    for hit in hits:
        scores.setdefault(hit.item_id, []).append(hit.score)
    if len(scores) == len(hits):
        return list(hits)
    best = {hit.item_id: hit for hit in reversed(hits)}
    summed = [best[item_id]._replace(score=_log_sum(own)) for item_id, own in scores.items()]
    return sorted(summed, key=lambda hit: -hit.score)


def _log_sum(scores: Sequence[float]) -> float:
    """Return log sum exp, of a single score the score itself."""
    if len(scores) == 1:
        return scores[0]
    most = max(scores)
    return most + math.log(sum(math.exp(score - most) for score in scores))


@dataclass(frozen=True)
class NoMatchBasis:
    """What a search has decided on whether any item answers its query: there is no match where `value < below`.

    Attributes:
        of: the name of what is compared: "log_sum_exp", of the fused scores of all candidates that were verified.
        value: what it is for this query.
        below: the threshold, fitted on val.
    """

    of: str
    value: float
    below: float


@dataclass(frozen=True)
class Hit:
    """A ranked item, as a search returns it.

    Attributes:
        item_id: an image's or a sentence's id.
        score: higher is better; comparable within one query only.
        identifier: what the model generated to find it.
        confidence: the probability, 0 to 1, that this item answers the query, as val's judgements say it: of hits
            with 0.8, four in five are right there. Several hits may be right, and none: they need not sum to 1.
            It never falls behind a lower hit's. Fitted on the corpus of val: where more items are searched it says
            too much (`Retriever.confidence_note`). None where nothing was fitted, and behind the shortlist.
        text: the sentence; None for an image.
        image_path: the image; None for a sentence.
        no_match: whether the search holds that no item answers its query: the scores of the query's candidates come to
            less than a threshold fitted on val. All hits of a query have the same; None where there is no threshold,
            or none for a search with these settings.
        no_match_by: what that was decided on; None where it was not.
    """

    item_id: str
    score: float
    identifier: str
    confidence: float | None = None
    text: str | None = None
    image_path: Path | None = None
    no_match: bool | None = None
    no_match_by: NoMatchBasis | None = None

    @classmethod
    def of(cls, item: Item, score: float, confidence: float | None, basis: NoMatchBasis | None = None) -> Hit:
        """Return an item with its score and confidence, and whether its query has an answer."""
        no_match = None if basis is None else basis.value < basis.below
        return cls(
            item.item_id, score, item.identifier, confidence, item.text or None, item.image_path, no_match, basis
        )

    def explained_by(self, explain: Callable[[str], dict[str, Any]]) -> Self:
        """Make `explain` call a function with the item's id; it is no field: no copy, file or comparison has it."""
        object.__setattr__(self, "_explain", explain)
        return self

    def explain(self) -> dict[str, Any]:
        """Return why this item was found, as plain data (`semcore.retrieval.explanation`).

        It is worked out now, in a pass or two of each model; a search does nothing for it in advance.

        Raises:
            UserError: the hit is a copy, or was read from a file, so that nothing knows of its search.
        """
        explain = self.__dict__.get("_explain")
        if explain is None:
            raise UserError(
                f"the hit {self.item_id} is a copy, which knows nothing of its search: explain it with "
                "Retriever.explain(text=... or image=..., item_id=...)"
            )
        return explain(self.item_id)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone, so that a hit can be sent to another process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
