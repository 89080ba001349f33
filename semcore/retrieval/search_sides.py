"""The sides of a search beside the generator, as its evaluation says: what guides it, and the candidates of vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.models.session import ModelSession
from semcore.retrieval.candidates import DenseSide, Search, cut, find_candidates, shortlist_of
from semcore.retrieval.corpus import Corpus
from semcore.retrieval.dense import FOLDER, SENTENCE_ENCODER, DenseEncoder, encoder_key, item_vectors, open_dense
from semcore.retrieval.generator import GuideOf
from semcore.retrieval.hits import GeneratedHit
from semcore.retrieval.open_guide import GuideMaker
from semcore.retrieval.search_settings import SearchSettings
from semcore.retrieval.shortlist import Shortlist
from semcore.runtime.errors import UserError
from semcore.verification import Fusion


@dataclass
class SearchSides:
    """Encoders and vectors are loaded on first use.

    Attributes:
        settings: of the search.
        run: holds captions and vectors.
        dataset: holds the images.
        session: the generator.
        device: the encoders'.
    """

    settings: SearchSettings
    run: RunFolder
    dataset: Dataset
    session: ModelSession
    device: str | None = None
    _pictures: dict[str, Image.Image] = field(default_factory=dict, repr=False)
    _encoders: dict[str, DenseEncoder] = field(default_factory=dict, repr=False)
    _sides: dict[Direction, tuple[str, DenseSide]] = field(default_factory=dict, repr=False)

    def show(self, pictures: Mapping[str, Image.Image]) -> None:
        """Take images in memory as queries, by their ids, in place of those before.

        Raises:
            UserError: what guides the search, or finds candidates, reads captions, which these images have not.
        """
        self._pictures.clear()
        self._pictures.update(pictures)
        guide, candidates = self.settings.guide, self.settings.candidates
        reads_captions = (guide.kind == "words" or (guide.kind == "dense" and guide.model == SENTENCE_ENCODER)) or (
            candidates.source != "generated" and candidates.model == SENTENCE_ENCODER
        )
        if pictures and reads_captions:
            raise UserError(
                f"the evaluation of {self.run.path} searches with captions (--guide.kind {guide.kind}, "
                f"--candidates.source {candidates.source}), and a new picture has none: add --plain to search without "
                "them, or evaluate with a CLIP or SigLIP checkpoint"
            )

    def guide(self, direction: Direction, corpus: Corpus) -> GuideOf | None:
        """Return what guides the search of a corpus, None for nothing."""
        weight = self.settings.guide.weight(direction)
        if self.settings.guide.kind == "none" or weight == 0:
            return None
        maker = GuideMaker(
            self.settings.guide, self.run, self.session, lambda: self._encoder(self.settings.guide.model)
        )
        guide = maker.make(direction, corpus)
        return lambda queries: guide.bonus(queries, weight)

    def shortlists(
        self,
        search: Search,
        queries: Sequence[str],
        generated: Sequence[Sequence[GeneratedHit]],
        share: float,
        num_candidates: int,
    ) -> list[Shortlist]:
        """Return the best candidates of both sides by their fused scores.

        Args:
            search: that has found the hits.
            queries: sentences or image ids.
            generated: what the generator found for each.
            share: how much of the identifiers' prior is off its scores.
            num_candidates: how many to return, at most.
        """
        found = find_candidates(
            search,
            self._side(search.direction, search.corpus),
            self.settings.candidates,
            dict(zip(queries, generated, strict=True)),
            dict.fromkeys(queries, share),
        )
        candidates = dict(zip(dict.fromkeys(queries), found, strict=True))
        fusion = self.settings.fusions.get(str(search.direction), Fusion(further={"dense": 0.5, "guide": 0.5}))
        whole = [shortlist_of(query, candidates[query], search.corpus.items) for query in queries]
        return [cut(own, fusion, num_candidates) for own in whole]

    def _encoder(self, name: str) -> DenseEncoder:
        if name not in self._encoders:
            self._encoders[name] = open_dense(name, self.run, self.dataset, self.device, self._pictures)
        return self._encoders[name]

    def _side(self, direction: Direction, corpus: Corpus) -> DenseSide:
        made_for, side = self._sides.get(direction, ("", None))
        if side is None or made_for != corpus.index.fingerprint:  # items may be added and removed between searches
            name, items = self.settings.candidates.model, list(corpus.items.values())
            encoder = self._encoder(name)
            vectors = item_vectors(encoder, encoder_key(name, self.run), direction, items, self.run / FOLDER)
            sequences = corpus.index.item_sequences()
            side = DenseSide(encoder, [item.item_id for item in items], vectors, sequences)
            self._sides[direction] = corpus.index.fingerprint, side
        return side
