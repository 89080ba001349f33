"""Paths in the tree of clusters for items that come later: nothing is learnt of them, and no node is divided.

Shapes: N items, vectors (N, d).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from semcore.data.caption_files import TextItem
from semcore.data.identifier_files import IdentifierRow
from semcore.data.identifier_tokens import read_tokens
from semcore.identifiers.collisions import Codes, Numbered, first_free
from semcore.identifiers.hierarchical import TREE, Tree, descend, leaf_rows, node_token, node_tokens, path_of
from semcore.identifiers.scheme import IdentifyLater, LaterItems, LaterRows
from semcore.runtime.errors import UserError


def later_hierarchical(folder: Path, _settings: Mapping[str, Any]) -> IdentifyLater:
    """Return the function that gives later items their path, and the next free place in its leaf.

    Raises:
        UserError: the tree is missing or broken.
    """
    tree, known = load_tree(folder), set(read_tokens(folder).texts)

    def identify(later: LaterItems) -> LaterRows:
        (images, sentences), (of_images, of_sentences) = later.vectors(), later.taken()
        rows = _rows(later.captions, images, tree, known, of_images)
        return rows, [] if sentences is None else _rows(later.sentences, sentences, tree, known, of_sentences)

    return identify


def load_tree(folder: Path) -> Tree:
    """Read the tree of RUN/identifiers.

    Raises:
        UserError: the file is missing or broken.
    """
    try:
        return Tree(**load_file(folder / TREE))
    except (OSError, TypeError, SafetensorError):
        raise UserError(f"{folder / TREE} holds no tree; make the identifiers again") from None


def _rows(
    items: Sequence[TextItem], vectors: np.ndarray, tree: Tree, known: Collection[str], taken: Collection[str]
) -> list[IdentifierRow]:
    """Return the rows of one direction's items; vectors (N, d)."""
    paths = [path_of(tree, leaf) for leaf in descend(vectors, tree).tolist()]
    places = [_places(path, known, alone=_text((path, None)) in taken) for path in paths]
    return leaf_rows(items, first_free(places, _text, taken))


def _places(path: Codes, known: Collection[str], *, alone: bool) -> list[Numbered]:
    """Return what an item of a leaf may get: where one is alone in it, and has no place, that is the first."""
    numbers: list[Numbered] = []
    while node_token(len(path), len(numbers)) in known:
        numbers.append((path, len(numbers)))
    return [(path, None), *numbers[1:]] if alone or not numbers else numbers


def _text(numbered: Numbered) -> str:
    return "".join(node_tokens(numbered))
