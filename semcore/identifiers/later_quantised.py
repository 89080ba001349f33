"""Vokens and coarse-fine identifiers of items that come later: nothing is learnt of them.

Shapes: N items, vectors (N, d), codes (N, M).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semcore.data.caption_files import TextItem
from semcore.data.identifier_files import IdentifierRow
from semcore.data.identifier_tokens import read_tokens
from semcore.identifiers.clusters import load_centroids
from semcore.identifiers.coded import known_numbers, modality_token
from semcore.identifiers.collisions import Numbered, first_free, possible_codes
from semcore.identifiers.quantised_codes import Coder, encode_vectors, rows_and_tokens, whole_tokens
from semcore.identifiers.quantizers import load_quantizer
from semcore.identifiers.scheme import IdentifyLater, LaterItems, LaterRows


def later_vokens(folder: Path, settings: Mapping[str, Any]) -> IdentifyLater:
    """Return the function that gives later items the codes of their vectors; errors as `load_quantizer`."""
    return _identify(Coder(load_quantizer(folder), None), settings, known_numbers(read_tokens(folder).texts))


def later_coarse_fine(folder: Path, settings: Mapping[str, Any]) -> IdentifyLater:
    """Return the function that gives later items a cluster and codes; errors as `load_quantizer`."""
    coder = Coder(load_quantizer(folder), load_centroids(folder))
    return _identify(coder, settings, known_numbers(read_tokens(folder).texts))


def _identify(coder: Coder, settings: Mapping[str, Any], numbers: Sequence[int]) -> IdentifyLater:
    def identify(later: LaterItems) -> LaterRows:
        images, sentences = later.vectors()
        unique = settings["collisions"] != "share"
        of_images, of_sentences = later.taken() if unique else ((), ())
        rows = _rows(later.captions, images, coder, settings, numbers, of_images, are_images=True)
        if sentences is None:
            return rows, []
        return rows, _rows(later.sentences, sentences, coder, settings, numbers, of_sentences, are_images=False)

    return identify


def _rows(
    items: Sequence[TextItem],
    vectors: np.ndarray,
    coder: Coder,
    settings: Mapping[str, Any],
    numbers: Sequence[int],
    taken: Collection[str],
    *,
    are_images: bool,
) -> list[IdentifierRow]:
    """Return the rows of one direction's items; vectors (N, d)."""
    encoded, *more = [encode_vectors(vectors, coder, rank) for rank in range(settings["per_item"])]
    first = (modality_token(are_images),) if settings["modality_token"] else ()

    def text_of(told: Numbered) -> str:
        return "".join(whole_tokens(told, coder.quantizer, first))

    def others(place: int) -> Callable[[], list[tuple[int, ...]]]:
        return lambda: encoded.others(place, coder.quantizer)

    whole = encoded.whole()
    if settings["collisions"] == "share":
        told: list[Numbered] = [(own, None) for own in whole]
    else:
        rule = settings["collisions"]
        possible = [possible_codes(own, rule, others(place), numbers) for place, own in enumerate(whole)]
        told = first_free(possible, text_of, taken)
    return rows_and_tokens(items, told, more, coder.quantizer, first)[0]
