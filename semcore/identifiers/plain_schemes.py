"""Schemes without clusters or codes: a number, what is said of an item, a token of its own (GRACE's other kinds)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semcore.data.caption_files import TextItem
from semcore.data.identifier_files import NO_CLUSTER, IdentifierRow, code_row, make_row
from semcore.data.identifier_tokens import NewTokens
from semcore.identifiers.scheme import CodeReader, Identifiers, IdentifyLater, Readers, SchemeInputs
from semcore.runtime.errors import UserError

STRING = (
    "An identifier is the item's **running number** in the dataset's order (GRACE, string). It says nothing of the "
    "item, so it can be learnt by heart alone."
)
CAPTION = (
    "An identifier is what is **said of the item**: an image's caption, a sentence itself (GRACE, semantic). Items of "
    "which the same is said share it."
)
ATOMIC = (
    "An identifier is a **token of the item's own** (GRACE, atomic), whose embedding starts at the item's vector. One "
    "that is not trained on says no more than that."
)
_MARKS = re.compile(r"[<|>]+")  # of special tokens


def make_string(inputs: SchemeInputs) -> Identifiers:
    """Give every item its running number, images and sentences each from 0 on, without padding (GRACE's code)."""
    t2i, i2t = ([_row(item, str(place)) for place, item in enumerate(own)] for own in _both(inputs))
    return Identifiers(t2i, i2t, lambda _: STRING)


def make_caption(inputs: SchemeInputs) -> Identifiers:
    """Give every image its caption and every sentence itself, without the marks that special tokens are made of."""
    t2i, i2t = map(_caption_rows, _both(inputs))
    return Identifiers(t2i, i2t, lambda _: CAPTION)


def later_caption(_folder: Path, _settings: Mapping[str, Any]) -> IdentifyLater:
    """Return the function that gives later items what is said of them."""
    return lambda items: (_caption_rows(items.captions), _caption_rows(items.sentences))


def make_atomic(inputs: SchemeInputs) -> Identifiers:
    """Give every item a token of its own; it is dense retrieval by the model's head, under another name.

    Raises:
        UserError: items may not be learnt from that are searched, which is all that such a token has.
    """
    left = len(inputs.captions) - len(inputs.fitted)
    if left:
        raise UserError(
            f"--scheme atomic gives every item a token of its own, and {left} images are not of the split train: no "
            "query of them trains it; add --protocol transductive, and --queries.captions all to the training"
        )
    vectors = inputs.vectors()
    both = [("image", inputs.captions, vectors.images), ("sentence", inputs.sentences, vectors.sentences)]
    given = [(kind, items, own) for kind, items, own in both if own is not None]
    texts = [f"<|{kind}_{place}|>" for kind, items, _ in given for place in range(len(items))]
    rows = [
        [
            code_row(item.item_id, item.split, NO_CLUSTER, [place], [f"<|{kind}_{place}|>"])
            for place, item in enumerate(items)
        ]
        for kind, items, _ in given
    ]
    own_vectors = np.concatenate([own for _, _, own in given])
    tokens = NewTokens(texts, [[]] * len(texts), own_vectors, "codebook")
    figures = {"tokens_per_identifier": 1.0, "collisions": {}}
    return Identifiers(
        rows[0],
        rows[1] if len(rows) > 1 else [],
        lambda _: ATOMIC,
        tokens=tokens,
        figures=figures,
        readers=_atomic_readers(given),
    )


def _atomic_readers(given: Sequence[tuple[str, Sequence[TextItem], np.ndarray]]) -> Readers:
    """Return readers that know an item's vector, and no code that two items have."""
    made = [CodeReader(np.full((len(items), 1), -1), own, own) for _, items, own in given]
    return made[0], made[1] if len(made) > 1 else None


def _both(inputs: SchemeInputs) -> tuple[Sequence[TextItem], Sequence[TextItem]]:
    return inputs.captions, inputs.sentences


def _caption_rows(items: Sequence[TextItem]) -> list[IdentifierRow]:
    return [_row(item, _MARKS.sub(" ", item.text)) for item in items]


def _row(item: TextItem, text: str) -> IdentifierRow:
    return make_row(item.item_id, item.split, NO_CLUSTER, text.split())
