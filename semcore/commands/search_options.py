"""Options of a search that several commands have: what guides it, and where candidates come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semcore.decoding.guides import GuideMode
from semcore.retrieval.candidates import CandidateSettings, CandidateSource
from semcore.retrieval.dense import SENTENCE_ENCODER
from semcore.retrieval.guides import GuideKind, GuideSettings
from semcore.runtime.errors import UserError


@dataclass(kw_only=True)
class GuideOptions:
    """What is known of a query before the first token is written, added to the scores of the search (ComGTIR)."""

    kind: GuideKind = "none"  # ours: the paper, SemCORE, has none
    """"words" for keywords that occur in the query, "dense" for the cosine of vectors, "set" for the generator's set
    head; "none" for an unguided search."""
    mode: GuideMode = "lookahead"  # ComGTIR's paper, equations 12 and 13
    """How it enters: by the best item below each prefix ("lookahead"), token by token ("tokens"), or as ComGTIR's
    released code does it; the last two need a set head."""
    weight: Literal["fit"] | float = "fit"
    """How much it counts beside log p(identifier | query); "fit" takes the best on val of 0, 0.25, 0.5, 1, 2, 4 and
    8."""
    model: str = SENTENCE_ENCODER
    """Of the vectors of "dense": sentence-encoder (sentences with captions), or a CLIP or SigLIP checkpoint."""
    best: int = 500  # ComGTIR's code, test_tir.py
    """How many identifiers the released form looks at."""

    def __post_init__(self) -> None:
        if self.weight != "fit" and not float(self.weight) >= 0:
            raise UserError(f"--guide.weight must be fit, or a number of 0 or more, found {self.weight}")
        if self.best < 1:
            raise UserError(f"--guide.best must be 1 or more, found {self.best}")

    def settings(self) -> GuideSettings:
        """Return them as plain data, without weights."""
        return GuideSettings(self.kind, self.mode, self.model, self.best)


@dataclass(kw_only=True)
class CandidateOptions:
    """Where the candidates that are verified come from."""

    source: CandidateSource = "generated"  # paper, section 3.3
    """The generator, "dense" vectors, or "both"; what only vectors found gets its exact log p(identifier | query)."""
    model: str = SENTENCE_ENCODER
    """Of the vectors: sentence-encoder (sentences with captions), or a CLIP or SigLIP checkpoint."""
    num_dense: int = 20  # ours: as many as beams
    """How many of the nearest items are candidates."""

    def __post_init__(self) -> None:
        if self.num_dense < 1:
            raise UserError(f"--candidates.num-dense must be 1 or more, found {self.num_dense}")

    def settings(self) -> CandidateSettings:
        """Return them as plain data."""
        return CandidateSettings(self.source, self.model, self.num_dense)
