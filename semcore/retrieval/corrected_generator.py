"""The generator of a run as its evaluation says: with a share of the identifiers' prior off its scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.decoding.prior_correction import Correction
from semcore.models.session import ModelSession
from semcore.retrieval.corpus import Corpus
from semcore.retrieval.generator import Engine, GuideOf, generate
from semcore.retrieval.hits import GeneratedHit, without_prior
from semcore.retrieval.prior_settings import PriorSettings
from semcore.retrieval.priors import Priors, PriorSample

logger = logging.getLogger(__name__)


@dataclass
class CorrectedGenerator:
    """Searches by the corrected score; a direction's priors are read, or estimated, when it is first searched.

    Attributes:
        session: the generator.
        settings: how much comes off, and what the prior is.
        run: keeps the priors.
        dataset: holds the training queries.
        engine: who searches.
        guides: makes what guides the search of a corpus, with its weight; None for nothing.
    """

    session: ModelSession
    settings: PriorSettings
    run: RunFolder
    dataset: Dataset
    engine: Engine = "semcore"
    guides: Callable[[Direction, Corpus], GuideOf | None] | None = None
    _guides: dict[Direction, tuple[str, GuideOf | None]] = field(default_factory=dict, repr=False)
    _priors: dict[Direction, Priors] = field(default_factory=dict, repr=False)
    _log_priors: dict[Direction, dict[str, float]] = field(default_factory=dict, repr=False)
    _corrections: dict[Direction, Correction] = field(default_factory=dict, repr=False)

    def generate(
        self,
        session: ModelSession,
        direction: Direction,
        queries: Sequence[str],
        corpus: Corpus,
        num_beams: int,
    ) -> list[list[GeneratedHit]]:
        """Return each query's items, best first; arguments as for `generate`.

        The corpus of a direction is always the same one; `session` is this generator's, with the images of the queries.
        """
        weight = self.settings.weight(direction)
        if weight:
            self._prepare(direction, corpus, weight)
        reorder = bool(weight) and not self.settings.in_search
        found = generate(
            session,
            direction,
            queries,
            corpus,
            num_beams=num_beams,
            engine=self.engine,
            correction=self._corrections.get(direction),
            guide=self.guide(direction, corpus),
            whole_beam=reorder,
        )
        if not reorder:
            return found
        return [without_prior(own, self._log_priors[direction], weight, num_beams) for own in found]

    def guide(self, direction: Direction, corpus: Corpus) -> GuideOf | None:
        """Return what guides the search of a direction's corpus, None for nothing; made at its first use."""
        if self.guides is None:
            return None
        made_for, guide = self._guides.get(direction, ("", None))
        if made_for != corpus.index.fingerprint:  # items may be added and removed between searches
            guide = self.guides(direction, corpus)
            self._guides[direction] = corpus.index.fingerprint, guide
        return guide

    def log_priors(self, direction: Direction) -> dict[str, float]:
        """Return identifier -> log p(identifier), where a share of it comes off; nothing elsewhere."""
        return self._log_priors.get(direction, {})

    def of_identifier(
        self, direction: Direction, corpus: Corpus, identifier: str
    ) -> tuple[list[float] | None, Correction | None]:
        """Return log p of each prefix of an identifier of the corpus, and what a search takes off; None for nothing."""
        weight = self.settings.weight(direction)
        if not weight:
            return None, None
        self._prepare(direction, corpus, weight)
        return self._priors[direction].values[identifier], self._corrections.get(direction)

    def _prepare(self, direction: Direction, corpus: Corpus, weight: float) -> None:
        """Find the priors of a corpus; those that are not known are estimated, and kept in the run."""
        if direction in self._log_priors:
            return
        sample = PriorSample(self.settings.num_queries, self.settings.seed)
        priors = Priors.open(self.session, direction, sample, self.run, self.dataset)
        missing = priors.missing(text for item in corpus.items.values() for text in item.identifiers)
        if missing:
            num_passes = max(len(priors.queries), 1)
            logger.warning("estimating the prior of %d identifiers, in %d passes over them", len(missing), num_passes)
            priors.fill(missing)
        if self.settings.in_search:
            self._corrections[direction] = priors.correction(corpus, weight)
        self._priors[direction], self._log_priors[direction] = priors, priors.totals()
