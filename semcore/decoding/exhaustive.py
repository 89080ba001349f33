"""Exhaustive search: exact scores of every identifier, as by a beam of unlimited width (small corpora).

Shapes: Q queries, N sequences, R tree nodes of a pass, S tokens cached after the prompt (0 before each pass).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from semcore.decoding.beam_search import SearchResult
from semcore.decoding.cached_model import Prompts, read_prompts, read_tree
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.preconditions import check_search
from semcore.decoding.scoring import Normalization, Scorer
from semcore.decoding.trie_tensors import ragged

NODES_PER_PASS = 512


@torch.inference_mode()
def exhaustive_search(
    model: Any,
    inputs: Mapping[str, Any],
    index: IdentifierIndex,
    normalization: Normalization = "vocabulary",
    nodes_per_pass: int = NODES_PER_PASS,
) -> SearchResult:
    """Score every identifier of a corpus exactly, for each query, as a reference for what a beam loses.

    The prompt is read once; the identifiers follow as one tree, a few nodes per pass, each attending to its ancestors.

    Args:
        model: a decoder-only Hugging Face model, in evaluation mode.
        inputs: the left-padded keyword arguments of `model(**inputs)` for Q queries, images included.
        index: the identifiers, on the model's device.
        normalization: as in `constrained_beam_search`.
        nodes_per_pass: most tree nodes to read at once per query; it bounds the memory.

    Returns:
        All sequences of the corpus for each query, best first; equal scores in the order of the tokens.

    Raises:
        UserError: as `constrained_beam_search`.
    """
    tokens = token_log_probabilities(model, inputs, index, normalization, nodes_per_pass)
    sequences = sorted(index.sequences())
    owners, _ = ragged(torch.tensor([len(sequence) for sequence in sequences]))
    scores = torch.zeros(len(tokens), len(sequences)).index_add_(1, owners, tokens)
    ordered, order = scores.sort(dim=1, descending=True, stable=True)
    leaves = [index.leaf(sequence) for sequence in sequences]
    places = order.tolist()
    return SearchResult(
        [[sequences[place] for place in row] for row in places],
        [[leaves[place] for place in row] for row in places],
        ordered,
    )


@torch.inference_mode()
def token_log_probabilities(
    model: Any,
    inputs: Mapping[str, Any],
    index: IdentifierIndex,
    normalization: Normalization = "vocabulary",
    nodes_per_pass: int = NODES_PER_PASS,
) -> torch.Tensor:
    """Return the log-probability of every token of every identifier, given its query and the tokens before it.

    Arguments and errors are those of `exhaustive_search`.

    Returns:
        One column a token, the sequences in the order of their tokens one after another, float32 (Q, T), on the CPU.
    """
    check_search(model, inputs, index, normalization)
    prompts = read_prompts(model, inputs)
    scorer = Scorer(prompts.head, index.tensors.vocabulary, normalization)
    trees = trees_of(sorted(index.sequences()), index, nodes_per_pass)
    return torch.cat([_score(prompts, scorer, tree).cpu() for tree in trees], dim=1)


@dataclass(frozen=True)
class Tree:
    """The prefixes of some sequences as nodes to read, and the steps that score the sequences."""

    tokens: list[int]
    """Token id of each node."""
    ancestors: list[list[int]]
    """The nodes that each attends to, itself included."""
    steps: list[tuple[int, int]]
    """For each token of each sequence: the node that predicts it (-1: the prompt), the dense token."""


def trees_of(sequences: list[tuple[int, ...]], index: IdentifierIndex, nodes_per_pass: int) -> Iterator[Tree]:
    """Cut the sorted sequences into trees of at most `nodes_per_pass` nodes, or one sequence."""
    nodes: dict[tuple[int, ...], int] = {}
    ancestors: list[list[int]] = []
    steps: list[tuple[int, int]] = []
    for sequence in sequences:
        if steps and len(nodes) + len(sequence) > nodes_per_pass:
            yield Tree([prefix[-1] for prefix in nodes], ancestors, steps)
            nodes, ancestors, steps = {}, [], []
        dense = np.searchsorted(index.trie.vocabulary, sequence).tolist()
        steps.append((-1, dense[0]))
        for length in range(1, len(sequence)):
            prefix = sequence[:length]
            if prefix not in nodes:
                nodes[prefix] = len(nodes)
                ancestors.append([*(ancestors[nodes[prefix[:-1]]] if length > 1 else []), nodes[prefix]])
            steps.append((nodes[prefix], dense[length]))
    yield Tree([prefix[-1] for prefix in nodes], ancestors, steps)


def _score(prompts: Prompts, scorer: Scorer, tree: Tree) -> torch.Tensor:
    """Return the log-probability of the tree's steps for every query (Q, steps)."""
    steps = torch.tensor(tree.steps, device=prompts.mask.device)
    first, later = (steps[:, 0] < 0).nonzero()[:, 0], (steps[:, 0] >= 0).nonzero()[:, 0]
    scores = torch.empty((len(prompts.mask), len(steps)), device=steps.device)
    scores[:, first] = _gains(scorer, prompts.states[:, None], steps[first, 0] + 1, steps[first, 1])
    if len(later):
        scores[:, later] = _gains(scorer, _read(prompts, tree), steps[later, 0], steps[later, 1])
    return scores


def _gains(scorer: Scorer, states: torch.Tensor, nodes: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of tokens at the same nodes for every query (Q, tokens)."""
    num_queries, num_states = states.shape[:2]
    rows = torch.arange(num_queries, device=states.device)[:, None] * num_states + nodes
    gains = scorer.log_probabilities(states.flatten(0, 1), rows.flatten(), tokens.repeat(num_queries))
    return gains.view(num_queries, -1)


def _read(prompts: Prompts, tree: Tree) -> torch.Tensor:
    """Read the nodes of a tree after the prompts, then remove them from the cache (Q, R, ...)."""
    num_queries, size = len(prompts.mask), len(tree.tokens)
    device = prompts.mask.device
    visible = torch.zeros((size, size), dtype=torch.bool)
    for node, ancestors in enumerate(tree.ancestors):
        visible[node, ancestors] = True
    tokens = torch.tensor(tree.tokens, device=device).expand(num_queries, -1)
    depths = torch.tensor([len(ancestors) - 1 for ancestors in tree.ancestors], device=device).expand(num_queries, -1)
    states = read_tree(prompts, tokens, depths, visible.to(device).expand(num_queries, -1, -1))
    prompts.cache.crop(-size)
    return states
