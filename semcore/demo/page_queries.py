"""Queries of the search page: a sentence or a picture with its settings, and the link that repeats them.

A link has one of the parameters `text` and `image` (an image's id, or "upload:" and a hash for a picture that somebody
dropped, which is known for as long as the page is served), and beams, verifier and prior:

    ?text=a+red+circle&beams=20&verifier=auto&prior=fit
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from semcore.data.directions import Direction
from semcore.runtime.errors import UserError
from semcore.runtime.text import clean_text

MOST_LETTERS = 2_000  # ours: some twenty times the longest sentence of COCO, and far from any model's context
MOST_BEAMS = 100  # ours: twice the widest beam of the paper
AUTO, FIT = "auto", "fit"
PRIORS = {FIT: "as fitted on val", "0": "0: the paper's score", "0.25": "0.25", "0.5": "0.5", "0.75": "0.75", "1": "1"}
"""Weights of the identifiers' prior to choose from -> their names on the page."""
KEYS = ("text", "image", "beams", "verifier", "prior")


@dataclass(frozen=True)
class PageQuery:
    """A query with its settings; `text` or `image` is empty.

    Attributes:
        text: a sentence.
        image: the id of an image of the dataset, or the key of an uploaded one.
        num_beams: width of the beam.
        verifier: the verifier's name, "none", or "auto" for the one that the run says.
        prior: a key of `PRIORS`.
    """

    text: str = ""
    image: str = ""
    num_beams: int = 20
    verifier: str = AUTO
    prior: str = FIT

    @property
    def direction(self) -> Direction:
        """Return the direction of the search."""
        return Direction.I2T if self.image else Direction.T2I

    @property
    def prior_weight(self) -> Any:
        """Return the weight of the prior as `Retriever.with_settings` takes it."""
        return FIT if self.prior == FIT else float(self.prior)

    @property
    def link(self) -> str:
        """Return the query string that repeats the search, its question mark included."""
        what = {"text": self.text} if self.text else {"image": self.image}
        settings = {"beams": self.num_beams, "verifier": self.verifier, "prior": self.prior}
        return "?" + urlencode({**what, **settings}, safe=":")

    def on(self, *, text: str = "", image: str = "") -> PageQuery:
        """Return another query with the same settings."""
        return replace(self, text=text, image=image)


def checked(query: PageQuery, verifiers: Mapping[str, str]) -> PageQuery:
    """Return a query as it is searched: its sentence normalised.

    Args:
        query: what the page, or a link, says.
        verifiers: those that can be chosen, by name.

    Raises:
        UserError: it has neither a sentence nor a picture, or both, the sentence is too long, or there is no such
            setting.
    """
    if len(query.text) > MOST_LETTERS:
        raise UserError(f"a sentence may have {MOST_LETTERS:,} letters here, found {len(query.text):,}; shorten it")
    text = clean_text(query.text)
    if text and query.image:
        raise UserError("a search takes a sentence or a picture, found both; leave one out")
    if not text and not query.image:
        raise UserError("there is nothing to search for yet; type a sentence such as 'a red circle', or drop a picture")
    if not 1 <= query.num_beams <= MOST_BEAMS:
        raise UserError(f"the beam's width must be from 1 to {MOST_BEAMS}, found {query.num_beams}")
    if query.verifier not in verifiers:
        raise UserError(f"there is no verifier {query.verifier!r} here; choose one of {', '.join(verifiers)}")
    if query.prior not in PRIORS:
        raise UserError(f"there is no prior {query.prior!r}; choose one of {', '.join(PRIORS)}")
    return replace(query, text=text)


def query_of(parameters: Mapping[str, str], num_beams: int) -> PageQuery:
    """Return the query of a link; what it leaves out is as usual, what it has besides is not looked at.

    Args:
        parameters: the link's parameters.
        num_beams: usual width of the beam.

    Raises:
        UserError: the width of the beam is no number.
    """
    beams = parameters.get("beams", str(num_beams))
    if not (beams.isascii() and beams.isdigit() and len(beams) < 10):
        raise UserError(f"the beam's width must be from 1 to {MOST_BEAMS}, found {beams[:20]!r}")
    return PageQuery(
        parameters.get("text", ""),
        parameters.get("image", ""),
        int(beams),
        parameters.get("verifier", AUTO),
        parameters.get("prior", FIT),
    )
