"""Making of a search's guide for a corpus: reads what each kind needs, from the run and the model.

Shapes: Q queries, N items, U units of the set vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from semcore.data.directions import Direction
from semcore.data.identifier_files import read_identifiers
from semcore.data.items_and_queries import Item
from semcore.data.run_folder import RunFolder
from semcore.decoding.cached_model import Prompts
from semcore.decoding.potentials import sequences_of_items
from semcore.models.session import ModelSession
from semcore.models.set_head import find_set_head, padded_units, unit_numbers
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
from semcore.retrieval.set_guide import NO_TOKEN, SetGuide, check_units
from semcore.runtime.errors import UserError


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
        items = list(corpus.items.values())
        if self.settings.kind == "words":
            rarity = keyword_rarity(self.run, direction)
            return item_guide("words", corpus.index, items, word_scores(items, rarity, self._text_of(direction)))
        if self.settings.kind == "set":
            corpus.require_single("--guide.kind set")
            return self._set_guide(direction, corpus)
        return item_guide("dense", corpus.index, items, self._dense(direction, items))

    def _set_guide(self, direction: Direction, corpus: Corpus) -> SetGuide:
        checkpoint = self.session.checkpoint
        head = find_set_head(checkpoint.model)
        if head is None:
            raise UserError(
                f"the guide set reads a set head, and {checkpoint.path} has none; train it with "
                "--losses.set-weight 0.5, or choose --guide.kind words"
            )
        numbers = unit_numbers(read_identifiers(self.run / "identifiers", direction), head.units)
        tokens = torch.tensor([_token_of(checkpoint.tokenizer, unit) for unit in head.units])
        check_units(self.settings.mode, head.units, tokens)

        def weigh(prompts: Prompts) -> torch.Tensor:
            if prompts.hidden is None:
                raise ValueError("a guide by a set head needs the prompts' states")
            return head.weigh(prompts.hidden, prompts.mask)

        return SetGuide(
            corpus.index, sequences_of_items(corpus.index, list(corpus.items)),
            padded_units(numbers.get(item.identifier, ()) for item in corpus.items.values()), tokens, weigh,
            self.settings.mode, self.settings.best,
        )  # fmt: skip

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


def _token_of(tokenizer: Any, unit: str) -> int:
    """Return the id of a unit that is a special token; a keyword's tokens depend on where it stands."""
    token: int = tokenizer.get_added_vocab().get(unit, NO_TOKEN)
    return token
