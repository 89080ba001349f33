"""Making of a search's guide for a corpus: reads what each kind needs, from the run and the model.

Shapes: Q queries, N items, U units of the set vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.data.run_folder import RunFolder
from semcore.models.session import ModelSession
from semcore.retrieval.corpus import Corpus
from semcore.retrieval.dense import FOLDER, DenseEncoder, captions_and_encoder, encoder_key, item_vectors
from semcore.retrieval.guides import (
    Guide,
    GuideSettings,
    dense_scores,
    item_guide,
    keyword_rarity,
    word_scores,
)


@dataclass
class GuideMaker:
    """Makes the guides of corpora.

    Attributes:
        settings: which guide.
        run: holds identifiers, captions and vectors.
        session: the generator.
        open_encoder: opens the encoder of dense vectors, at its first use.
        progress: show a progress bar while vectors are made.
        kept: query -> its vector, where queries are asked more than once; None keeps none.
    """

    settings: GuideSettings
    run: RunFolder
    session: ModelSession
    open_encoder: Callable[[], DenseEncoder]
    progress: bool = False
    kept: dict[str, np.ndarray] | None = None
    _encoder: list[DenseEncoder] = field(default_factory=list, repr=False)

    def make(self, direction: Direction, corpus: Corpus) -> Guide:
        """Return the guide of a corpus.

        Raises:
            UserError: the identifiers, the captions or the model do not have what this kind needs.
        """
        corpus.require_single(f"--guide.kind {self.settings.kind}")
        items = list(corpus.items.values())
        if self.settings.kind == "words":
            rarity = keyword_rarity(self.run, direction)
            return item_guide("words", corpus.index, items, word_scores(items, rarity, self._text_of(direction)))
        return item_guide("dense", corpus.index, items, self._dense(direction, items))

    def _text_of(self, direction: Direction) -> Callable[[str], str]:
        if not direction.queries_are_images:
            return lambda query: query
        captions: Mapping[str, str] = captions_and_encoder(self.run)[0]
        return lambda query: captions.get(query, "")

    def _dense(self, direction: Direction, items: Sequence[Item]) -> Callable[[Sequence[str]], np.ndarray]:
        if not self._encoder:
            self._encoder.append(self.open_encoder())
        key = encoder_key(self.settings.model, self.run)
        vectors = item_vectors(self._encoder[0], key, direction, items, self.run / FOLDER, progress=self.progress)
        return dense_scores(self._encoder[0], direction, vectors, self.kept)
