"""Identifiers of quantised vectors, with or without a cluster before the codes: what vokens and coarse-fine share.

Shapes: N items, vectors (N, d), codes (N, M).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from semcore.data.caption_files import TextItem
from semcore.data.identifier_files import IdentifierRow, cluster_token
from semcore.data.identifier_tokens import NewTokens
from semcore.identifiers.clusters import CENTROIDS, fit_centroids
from semcore.identifiers.code_settings import CodeSettings
from semcore.identifiers.coded import (
    code_token,
    collision_figures,
    level_figures,
    mean_length,
    modality_token,
    number_token,
    token_vectors,
    token_words,
    variance_left,
)
from semcore.identifiers.collisions import Codes, tell_apart
from semcore.identifiers.quantised_codes import Coder, encode_vectors, rows_and_tokens
from semcore.identifiers.quantizers import ARRAYS, SETTINGS, Quantizer, fit_quantizer, require_enough
from semcore.identifiers.residual import nearest_rows
from semcore.identifiers.scheme import CodeReader, Identifiers, SchemeInputs
from semcore.runtime.errors import UserError

VOKENS = (
    "An identifier is the codes of the item's vector, **residual by residual** (AVG's vokens): each code stands for "
    "what the ones before it leave."
)
COARSE_FINE = (
    "An identifier is the item's **cluster**, then the codes of what the cluster's centre leaves of its vector "
    "(CART, coarse to fine)."
)


class Side(NamedTuple):
    """One direction's items as codes.

    Attributes:
        rows: their rows.
        texts: the tokens of each identifier of each item, the best first.
        reader: their codes and vectors; a cluster is the first level.
        raw: each item's cluster and codes before the rule for collisions.
        numbers: the numbers that tell items apart.
    """

    rows: list[IdentifierRow]
    texts: list[list[tuple[str, ...]]]
    reader: CodeReader
    raw: list[Codes]
    numbers: set[int]


def make_vokens(inputs: SchemeInputs) -> Identifiers:
    """Give every item the codes of its vector (AVG, section 3.1); errors as `make_quantised`."""
    return make_quantised(inputs, VOKENS, coarse=False)


def make_coarse_fine(inputs: SchemeInputs) -> Identifiers:
    """Give every item a cluster and the codes of what it leaves (CART, section 3.2); errors as `make_quantised`."""
    return make_quantised(inputs, COARSE_FINE, coarse=True)


def make_quantised(inputs: SchemeInputs, introduction: str, coarse: bool) -> Identifiers:
    """Give every item the codes of its vector, or a cluster and the codes of what it leaves of the vector.

    Args:
        inputs: what they are made from.
        introduction: the report's sentence.
        coarse: whether a cluster stands first.

    Raises:
        UserError: more codes, or clusters, than images to learn from, or settings that do not go together.
    """
    own = inputs.codes
    _check(inputs, coarse)
    vectors = inputs.vectors()
    if vectors.sentences is None and own.quantizer.align:
        raise UserError(
            f"--quantizer.align {own.quantizer.align:g} pulls images to the vectors of sentences, which these vectors "
            "do not have: choose --vectors caption or a CLIP checkpoint, or --quantizer.align 0"
        )
    centroids = _fit_coarse(vectors.images[list(inputs.fitted)], inputs) if coarse else None
    quantizer = _fit(inputs, vectors.images, vectors.sentences, centroids)
    coder = Coder(quantizer, centroids)
    images = _side(inputs.captions, vectors.images, coder, own, are_images=True)
    sides = [images]
    if vectors.sentences is not None:
        sides.append(_side(inputs.sentences, vectors.sentences, coder, own, are_images=False))
    figures = {
        "quantizer": asdict(own.quantizer),
        "levels": level_figures(images.reader.codes[list(inputs.fitted)], _sizes(quantizer, centroids)),
        "variance_left": variance_left(
            vectors.images, images.reader.rebuilt, [item.split for item in inputs.captions], inputs.fitted
        ),
        "tokens_per_identifier": mean_length(images.texts),
        "collisions": {
            name: collision_figures(own.collisions, side.raw, side.rows)
            for name, side in zip(("t2i", "i2t"), sides, strict=False)
        },
    }
    arrays = {ARRAYS: quantizer.arrays, **({} if centroids is None else {CENTROIDS: {"centroids": centroids}})}
    return Identifiers(
        images.rows,
        sides[1].rows if len(sides) > 1 else [],
        lambda _: introduction,
        tokens=_tokens(inputs, quantizer, centroids, sides),
        figures=figures,
        arrays=arrays,
        settings={SETTINGS: quantizer.settings},
        readers=(images.reader, sides[1].reader if len(sides) > 1 else None),
    )


def _check(inputs: SchemeInputs, coarse: bool) -> None:
    own, num_fitted = inputs.codes, len(inputs.fitted)
    first, flag = (own.coarse, "--coarse") if coarse else (own.quantizer.num_codes, "--quantizer.num-codes")
    if coarse and num_fitted < own.coarse:
        raise UserError(
            f"{own.coarse} clusters need at least as many images to learn from, found {num_fitted}; "
            f"choose --coarse {num_fitted} or less"
        )
    require_enough(own.quantizer, num_fitted)
    if own.per_item > first:
        raise UserError(f"--per-item {own.per_item} is more than {flag} {first}: choose it smaller")
    if own.per_item > 1 and own.collisions != "share":
        raise UserError(
            f"--collisions {own.collisions} makes one identifier an item unique, and --per-item {own.per_item} gives "
            "several: choose --collisions share, or --per-item 1"
        )


def _fit_coarse(vectors: np.ndarray, inputs: SchemeInputs) -> np.ndarray:
    own = inputs.codes
    return fit_centroids(
        vectors, own.coarse, seed=inputs.seed,
        num_inits=own.num_inits, max_iterations=own.max_iterations, max_fit_items=own.max_fit_items,
    )  # fmt: skip


def _fit(
    inputs: SchemeInputs, images: np.ndarray, sentences: np.ndarray | None, centroids: np.ndarray | None
) -> Quantizer:
    """Fit the quantiser to the fitted images, or with alignment to their pairs with a sentence."""
    places, said = np.array(inputs.fitted), None
    if inputs.codes.quantizer.align and sentences is not None:
        chosen = set(inputs.fitted)
        pairs = [(image, place) for place, image in enumerate(inputs.image_of_sentence) if image in chosen]
        if not pairs:
            raise UserError("--quantizer.align needs sentences of the images that are learnt from; leave it at 0")
        places, spoken = (np.array(column) for column in zip(*pairs, strict=True))
        said = sentences[spoken]
    given = images[places]
    if centroids is not None:
        centres = centroids[nearest_rows(given, centroids, 1)[:, 0]]
        given, said = given - centres, None if said is None else said - centres
    return fit_quantizer(given, said, inputs.codes, seed=inputs.seed, device=inputs.device, progress=inputs.progress)


def _side(
    items: Sequence[TextItem],
    vectors: np.ndarray,
    coder: Coder,
    settings: CodeSettings,
    *,
    are_images: bool,
) -> Side:
    """Give one direction's items their codes."""
    quantizer, centroids = coder
    encoded, *more = [encode_vectors(vectors, coder, rank) for rank in range(settings.per_item)]
    raw, splits = encoded.whole(), [item.split for item in items]
    told = tell_apart(raw, splits, settings.collisions, lambda place: encoded.others(place, quantizer))
    first = (modality_token(are_images),) if settings.modality_token else ()
    rows, texts = rows_and_tokens(items, told, more, quantizer, first)
    final = np.array([own[1:] for own, _ in told])
    rebuilt, levels = quantizer.rebuilt(final), final
    if centroids is not None:
        rebuilt, levels = rebuilt + centroids[encoded.clusters], np.column_stack([encoded.clusters, final])
    numbers = {number for _, number in told if number is not None}
    return Side(rows, texts, CodeReader(levels, vectors, rebuilt), raw, numbers)


def _sizes(quantizer: Quantizer, centroids: np.ndarray | None) -> list[int]:
    coarse = [] if centroids is None else [len(centroids)]
    return [*coarse, *(len(book) for book in quantizer.books)]


def _tokens(
    inputs: SchemeInputs, quantizer: Quantizer, centroids: np.ndarray | None, sides: Sequence[Side]
) -> NewTokens:
    """Return the tokens of all codes, used or not, and of the numbers that are used."""
    vectors: dict[str, np.ndarray] = {}
    width = quantizer.books.shape[2]
    if centroids is not None and centroids.shape[1] == width:
        vectors = {cluster_token(cluster): row for cluster, row in enumerate(centroids)}
    for level, book in enumerate(quantizer.books[:1] if quantizer.shared else quantizer.books):
        vectors |= {code_token(level, code, quantizer.shared): row for code, row in enumerate(book)}
    coarse = [] if centroids is None else [cluster_token(cluster) for cluster in range(len(centroids))]
    first = [modality_token(True), modality_token(False)] if inputs.codes.modality_token else []
    codes = [
        code_token(level, code, quantizer.shared)
        for level, book in enumerate(quantizer.books[:1] if quantizer.shared else quantizer.books)
        for code in range(len(book))
    ]
    numbers = sorted({number for side in sides for number in side.numbers})
    texts = [*first, *coarse, *codes, *map(number_token, numbers)]
    carried = [sides[0].texts[place][0] for place in inputs.fitted]
    words = token_words(
        [inputs.captions[place].text for place in inputs.fitted], carried, texts, inputs.codes.num_token_words
    )
    return NewTokens(texts, words, token_vectors(texts, vectors, width), inputs.codes.token_init)
