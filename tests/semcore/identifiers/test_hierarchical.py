"""Trees of clusters, and places in their leaves."""

from __future__ import annotations

from typing import Any

import numpy as np

from semcore.data.identifier_files import identifier_parts
from semcore.identifiers.code_settings import CodeSettings
from semcore.identifiers.hierarchical import descend, fit_tree, make_hierarchical, number_in_leaves, path_of
from tests.semcore.identifiers.scheme_inputs import only_images, scheme_inputs

VECTORS = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)


def slow_leaf(vector: np.ndarray, tree) -> int:
    """Walk down from the root, a child at a time."""
    node = 0
    while len(children := tree.children(node)):
        node = int(children[np.argmin([((vector - tree.centres[child]) ** 2).sum() for child in children])])
    return node


def test_items_go_to_the_nearest_centre_and_leaves_are_small() -> None:
    tree = fit_tree(VECTORS, CodeSettings(branch=3, leaf=6), seed=0)
    leaves = descend(VECTORS, tree)
    assert leaves.tolist() == [slow_leaf(vector, tree) for vector in VECTORS]
    assert max(np.bincount(leaves)) <= 6
    assert len({path_of(tree, leaf) for leaf in set(leaves.tolist())}) == len(set(leaves.tolist()))
    assert all(place < 3 for leaf in leaves.tolist() for place in path_of(tree, leaf))


def test_identical_vectors_end() -> None:
    tree = fit_tree(np.ones((20, 4), np.float32), CodeSettings(branch=3, leaf=2), seed=0)
    assert len(tree.parents) == 1


def test_places_in_a_leaf_count_on_and_one_that_is_alone_has_none() -> None:
    paths = [(0,), (0,), (1,), (1,), (2, 1)]
    told = number_in_leaves(paths, ["train", "train", "test", "train", "test"], [True, True, False, True, False])
    assert told == [((0,), 0), ((0,), 1), ((1,), 1), ((1,), None), ((2, 1), 0)]


def test_every_item_has_its_own_identifier_made_of_known_tokens() -> None:
    made: Any = make_hierarchical(scheme_inputs(branch=3, leaf=4))
    for rows in (made.t2i, made.i2t):
        assert len({row["identifier"] for row in rows}) == len(rows)
        assert {part for row in rows for part in identifier_parts(row)} <= set(made.tokens.texts)
    named = dict(zip(made.tokens.texts, made.tokens.words, strict=True))
    assert any(named.values()) and made.tokens.vectors.shape == (len(named), 8)


def test_test_items_never_change_a_training_items_identifier() -> None:
    inputs = scheme_inputs(branch=3, leaf=4)
    whole = {row["item_id"]: row["identifier"] for row in make_hierarchical(inputs).t2i}
    kept = [place for place, item in enumerate(inputs.captions) if item.split != "test"]
    alone = make_hierarchical(only_images(inputs, kept))
    assert all(whole[row["item_id"]] == row["identifier"] for row in alone.t2i)
