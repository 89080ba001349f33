"""Hierarchical k-means: a tree of clusters, an item's path in it, and its place in the leaf (GRACE, "structured").

A node is divided while more items than fit into a leaf are fitted on it and the division separates them; GRACE's code
recurses for ever on identical vectors. Items that were not fitted go to the nearest centre at every node.

Shapes: N vectors of d dimensions, a tree of n nodes with centres (n, d).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from semcore.data.caption_files import TextItem
from semcore.data.dataset import SPLITS
from semcore.data.identifier_files import NO_CLUSTER, IdentifierRow
from semcore.data.identifier_tokens import NewTokens
from semcore.identifiers.clusters import fit_centroids, nearest_centroids
from semcore.identifiers.code_settings import CodeSettings
from semcore.identifiers.coded import (
    code_rows,
    collision_figures,
    mean_length,
    token_vectors,
    token_words,
    variance_left,
)
from semcore.identifiers.collisions import Codes, Numbered
from semcore.identifiers.scheme import CodeReader, Identifiers, SchemeInputs
from semcore.runtime.errors import UserError

TREE = "tree.safetensors"
ROOT = 0
INTRODUCTION = (
    "An identifier is the item's **path in a tree of clusters** and its place in the leaf (GRACE, structured); a token "
    "stands for a place at a depth, anywhere in the tree."
)


class Tree(NamedTuple):
    """Nodes in an order in which parents come first; the root is the first.

    Attributes:
        parents: (n,), -1 for the root.
        centres: (n, d).
    """

    parents: np.ndarray
    centres: np.ndarray

    def children(self, node: int) -> np.ndarray:
        """Return a node's children, in their order (children,)."""
        return np.nonzero(self.parents == node)[0]


def make_hierarchical(inputs: SchemeInputs) -> Identifiers:
    """Give every item its path and its place in the leaf.

    Raises:
        UserError: several identifiers an item, or a rule for collisions, are asked for.
    """
    if inputs.codes.per_item > 1:
        raise UserError("--per-item is for the schemes structured, vokens and coarse-fine: leave it at 1")
    vectors = inputs.vectors()
    tree = fit_tree(vectors.images[list(inputs.fitted)], inputs.codes, inputs.seed)
    depth = max(len(path_of(tree, node)) for node in range(len(tree.parents)))
    chosen = set(inputs.fitted)
    learnt = {"t2i": [place in chosen for place in range(len(inputs.captions))]}
    given: dict[str, tuple[Sequence[TextItem], np.ndarray]] = {"t2i": (inputs.captions, vectors.images)}
    if vectors.sentences is not None:
        given["i2t"] = inputs.sentences, vectors.sentences
        learnt["i2t"] = [image in chosen for image in inputs.image_of_sentence]
    rows, texts, readers, collisions = {}, {}, {}, {}
    for name, (items, own) in given.items():
        leaves = descend(own, tree)
        paths = [path_of(tree, leaf) for leaf in leaves.tolist()]
        numbered = number_in_leaves(paths, [item.split for item in items], learnt[name])
        texts[name] = [[node_tokens(one)] for one in numbered]
        rows[name] = leaf_rows(items, numbered)
        readers[name] = CodeReader(_padded(paths, depth), own, tree.centres[leaves])
        collisions[name] = collision_figures("position in the leaf", paths, rows[name])
    figures = {
        "num_nodes": len(tree.parents),
        "num_leaves": len(tree.parents) - len(np.unique(tree.parents[1:])),
        "depth": depth,
        "variance_left": variance_left(
            vectors.images, readers["t2i"].rebuilt, [item.split for item in inputs.captions], inputs.fitted
        ),
        "tokens_per_identifier": mean_length(texts["t2i"]),
        "collisions": collisions,
    }
    return Identifiers(
        rows["t2i"],
        rows.get("i2t", []),
        lambda _: INTRODUCTION,
        tokens=_tokens(inputs, tree, texts),
        figures=figures,
        arrays={TREE: tree._asdict()},
        readers=(readers["t2i"], readers.get("i2t")),
    )


def node_token(depth: int, place: int) -> str:
    """Return the token of a place at a depth; nodes all over the tree share it."""
    return f"<|node_{depth}_{place}|>"


def fit_tree(vectors: np.ndarray, settings: CodeSettings, seed: int) -> Tree:
    """Divide vectors (N, d) until few enough are in every leaf."""
    parents, centres = [-1], [vectors.mean(axis=0)]
    waiting = [(ROOT, np.arange(len(vectors)))]
    while waiting:
        node, members = waiting.pop()
        if len(members) <= settings.leaf:
            continue
        book = fit_centroids(
            vectors[members], min(settings.branch, len(members)), seed=seed, num_inits=settings.num_inits,
            max_iterations=settings.max_iterations, max_fit_items=settings.max_fit_items,
        )  # fmt: skip
        labels = nearest_centroids(vectors[members], book)
        used = np.unique(labels)
        if len(used) < 2:
            continue
        for label in used.tolist():
            waiting.append((len(parents), members[labels == label]))
            parents.append(node)
            centres.append(book[label])
    return Tree(np.array(parents), np.stack(centres).astype(np.float32))


def descend(vectors: np.ndarray, tree: Tree) -> np.ndarray:
    """Return the leaf (N,) of each vector (N, d): from the root on, the child with the nearest centre."""
    leaves = np.zeros(len(vectors), np.int64)
    for node in range(len(tree.parents)):  # parents come first
        here, children = np.nonzero(leaves == node)[0], tree.children(node)
        if len(here) and len(children):
            leaves[here] = children[nearest_centroids(vectors[here], tree.centres[children])]
    return leaves


def path_of(tree: Tree, node: int) -> Codes:
    """Return the places of a node and its ancestors among their siblings, from below the root on."""
    path: list[int] = []
    while node != ROOT:
        parent = int(tree.parents[node])
        path.append(int(np.searchsorted(tree.children(parent), node)))
        node = parent
    return tuple(reversed(path))


def number_in_leaves(paths: Sequence[Codes], splits: Sequence[str], learnt: Sequence[bool]) -> list[Numbered]:
    """Return each item's path and its place in the leaf; none for the only one of a leaf that was learnt from.

    Items are taken in the order train, val, test, so that a test item never changes the identifier of another.

    Args:
        paths: of each item.
        splits: of each item.
        learnt: whether each was learnt from.
    """
    sizes = Counter(path for path, was in zip(paths, learnt, strict=True) if was)
    seen: Counter[Codes] = Counter()
    told: dict[int, Numbered] = {}
    for place in sorted(range(len(paths)), key=lambda place: (not learnt[place], SPLITS.index(splits[place]))):
        path = paths[place]
        alone = path and sizes[path] == 1 and learnt[place]
        told[place] = (path, None if alone else seen[path])
        seen[path] += 1
    return [told[place] for place in range(len(paths))]


def leaf_rows(items: Sequence[TextItem], numbered: Sequence[Numbered]) -> list[IdentifierRow]:
    """Return the rows of items with these paths, and places in their leaves."""
    whole: list[Numbered] = [(_codes(one), None) for one in numbered]
    return code_rows(items, [NO_CLUSTER] * len(items), whole, [[node_tokens(one)] for one in numbered])


def node_tokens(numbered: Numbered) -> tuple[str, ...]:
    """Return the tokens of a path, and of the place in its leaf where there is one."""
    return tuple(node_token(depth, place) for depth, place in enumerate(_codes(numbered)))


def _codes(numbered: Numbered) -> Codes:
    path, number = numbered
    return path if number is None else (*path, number)


def _padded(paths: Sequence[Codes], depth: int) -> np.ndarray:
    codes = np.full((len(paths), depth), -1)
    for place, path in enumerate(paths):
        codes[place, : len(path)] = path
    return codes


def _tokens(inputs: SchemeInputs, tree: Tree, texts: dict[str, list[list[tuple[str, ...]]]]) -> NewTokens:
    """Return every place that a child or an item has, depth by depth."""
    widths: Counter[int] = Counter()
    for own in texts.values():
        for [tokens] in own:
            for depth, token in enumerate(tokens):
                widths[depth] = max(widths[depth], int(token.removesuffix("|>").rpartition("_")[2]) + 1)
    for node in range(1, len(tree.parents)):
        path = path_of(tree, node)
        widths[len(path) - 1] = max(widths[len(path) - 1], path[-1] + 1)
    wanted = [node_token(depth, place) for depth in sorted(widths) for place in range(widths[depth])]
    captions = [inputs.captions[place].text for place in inputs.fitted]
    carried = [texts["t2i"][place][0] for place in inputs.fitted]
    sums: dict[str, list[np.ndarray]] = {}
    for node in range(1, len(tree.parents)):
        path = path_of(tree, node)
        sums.setdefault(node_token(len(path) - 1, path[-1]), []).append(tree.centres[node])
    means = {token: np.mean(rows, axis=0) for token, rows in sums.items()}
    words = token_words(captions, carried, wanted, inputs.codes.num_token_words)
    return NewTokens(wanted, words, token_vectors(wanted, means, tree.centres.shape[1]), inputs.codes.token_init)
