"""HTML of the page: hits, explanations and messages, every text escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from semcore.demo.run_search import Outcome
from semcore.report.thumbnails import Picture, thumbnail
from semcore.retrieval.hits import Hit
from semcore.runtime.errors import UnreadableImage

TEMPLATES = Path(__file__).parent / "templates"
PICTURE_SIDE = 320
"""Pixels of a shown picture's longer side; twice what it takes on most screens."""
_CLUSTER = re.compile(r"<\|cluster_\d+\|>")
COURSES = {
    "found": "The best hit.",
    "outranked": "Found and verified; others are ahead of it.",
    "not verified": "Found, but behind the shortlist that is verified.",
}
"""Course of a hit through the search -> its sentence."""


class Card(NamedTuple):
    """A hit as it is shown.

    Attributes:
        hit: the item.
        link: the search with the item itself, in the other direction.
        cluster: the cluster's token of its identifier; empty without one.
        words: the rest of its identifier.
        picture: the image; None for a sentence, and where it cannot be read.
        problem: why it cannot be read.
    """

    hit: Hit
    link: str
    cluster: str
    words: list[str]
    picture: Picture | None
    problem: str


def results_html(outcome: Outcome) -> str:
    """Return the hits of a search with all that is known of them, their explanations left to be asked for."""
    direction = outcome.query.direction
    shown = outcome.query.image if direction.queries_are_images else f"“{outcome.query.text}”"
    heading = "Sentences for the picture" if shown.startswith("upload:") else f"{direction.item_kind} for {shown}"
    return _render(
        "results.html.jinja",
        outcome=outcome,
        heading=heading[0].upper() + heading[1:],
        kind=direction.item_kind,
        no_match=next((hit.no_match_by for hit in outcome.hits[:1] if hit.no_match), None),
        cards=[_card(outcome, hit) for hit in outcome.hits],
    )


def explanation_html(why: Mapping[str, Any]) -> str:
    """Return an explanation, as `semcore.retrieval.explanation` describes it."""
    orders = why["verifier"]["orders"] if why["verifier"] else []
    outcome = why["search"]["outcome"]
    return _render("explanation.html.jinja", why=why, orders=orders, course=COURSES.get(outcome, outcome))


def message_html(sentence: str, *, is_problem: bool = False) -> str:
    """Return a sentence in place of hits."""
    return _render("message.html.jinja", sentence=sentence, is_problem=is_problem)


def title_html(name: str, counts: str) -> str:
    """Return the head of the page."""
    return _render("title.html.jinja", name=name, counts=counts)


def _card(outcome: Outcome, hit: Hit) -> Card:
    found = _CLUSTER.match(hit.identifier)
    cluster = found[0] if found else ""
    picture, problem = (None, "") if hit.image_path is None else _picture(hit.image_path)
    own = {"image": hit.item_id} if hit.text is None else {"text": hit.text}
    words = hit.identifier[len(cluster) :].split()
    return Card(hit, outcome.query.on(**own).link, cluster, words, picture, problem)


def _picture(path: Path) -> tuple[Picture | None, str]:
    try:
        return _thumbnail(path), ""
    except UnreadableImage as error:
        return None, f"the picture cannot be shown: {error}"


@lru_cache(maxsize=512)
def _thumbnail(path: Path) -> Picture:
    return thumbnail(path, PICTURE_SIDE)


def _render(template: str, /, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent, seconds=_seconds, number=_number, probability=_probability, visible=_visible
    )
    return environment


def _percent(share: float) -> str:
    """Format a share.

    >>> _percent(0.834), _percent(0.0004), _percent(0.9996)
    ('83 %', '< 1 %', '> 99 %')
    """
    if 0 < share < 0.005:
        return "< 1 %"
    return "> 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def _probability(log_probability: float) -> str:
    """Format the probability that a logarithm stands for.

    >>> _probability(-0.105), _probability(-20.0)
    ('0.90', '2e-09')
    """
    value = math.exp(log_probability)
    return f"{value:.2f}" if value >= 0.005 else f"{value:.0e}"


def _number(value: float) -> str:
    """Format a score.

    >>> _number(-1.2345)
    '−1.23'
    """
    return f"{value:.2f}".replace("-", "−")


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def _visible(token: str) -> str:
    """Show the spaces of a token.

    >>> _visible(" red")
    '·red'
    """
    return token.replace(" ", "·").replace("\n", "⏎") or "∅"
