"""Schemes without clusters or codes: a running number, or what is said of an item (GRACE, "string" and "semantic")."""

from __future__ import annotations

import re
from collections.abc import Sequence

from semcore.data.caption_files import TextItem
from semcore.data.identifier_files import NO_CLUSTER, IdentifierRow, make_row
from semcore.identifiers.scheme import Identifiers, SchemeInputs

STRING = (
    "An identifier is the item's **running number** in the dataset's order (GRACE, string). It says nothing of the "
    "item, so it can be learnt by heart alone."
)
CAPTION = (
    "An identifier is what is **said of the item**: an image's caption, a sentence itself (GRACE, semantic). Items of "
    "which the same is said share it."
)
_MARKS = re.compile(r"[<|>]+")  # of special tokens


def make_string(inputs: SchemeInputs) -> Identifiers:
    """Give every item its running number, images and sentences each from 0 on, without padding (GRACE's code)."""
    t2i, i2t = ([_row(item, str(place)) for place, item in enumerate(own)] for own in _both(inputs))
    return Identifiers(t2i, i2t, lambda _: STRING)


def make_caption(inputs: SchemeInputs) -> Identifiers:
    """Give every image its caption and every sentence itself, without the marks that special tokens are made of."""
    t2i, i2t = ([_row(item, _MARKS.sub(" ", item.text)) for item in own] for own in _both(inputs))
    return Identifiers(t2i, i2t, lambda _: CAPTION)


def _both(inputs: SchemeInputs) -> tuple[Sequence[TextItem], Sequence[TextItem]]:
    return inputs.captions, inputs.sentences


def _row(item: TextItem, text: str) -> IdentifierRow:
    return make_row(item.item_id, item.split, NO_CLUSTER, text.split())
