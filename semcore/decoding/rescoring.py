"""Rescoring: the exact log-probability of identifiers that each query names itself, its prompt read once.

What another system has found is scored as a search would have scored it, so that both can be compared.

Shapes: Q queries, R tree nodes of a pass, n steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from semcore.decoding.bonus import Bonus, BonusOf
from semcore.decoding.cached_model import Prompts, read_prompts, read_tree
from semcore.decoding.exhaustive import Tree, trees_of
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.preconditions import check_search
from semcore.decoding.scoring import Normalization, Scorer
from semcore.decoding.trie import ROOT

SEQUENCES_PER_PASS = 32
"""Identifiers of each query that are read at once; it bounds the memory."""


class Rescored(NamedTuple):
    """Scores of each query's identifiers, in the order given."""

    log_probabilities: list[list[float]]
    bonuses: list[list[float]] | None
    """What a bonus would have added; None without one."""


@torch.inference_mode()
def score_sequences(
    model: Any,
    inputs: Mapping[str, Any],
    index: IdentifierIndex,
    wanted: Sequence[Sequence[tuple[int, ...]]],
    normalization: Normalization = "vocabulary",
    bonus: Bonus | BonusOf | None = None,
) -> Rescored:
    """Score some identifiers for each query, in the order given.

    Args:
        model: a decoder-only Hugging Face model, in evaluation mode.
        inputs: the left-padded keyword arguments of `model(**inputs)` for Q queries, images included.
        index: holds the identifiers, on the model's device.
        wanted: each query's token sequences, any number of them, all in the index.
        normalization: as in `constrained_beam_search`.
        bonus: as there; it is returned apart.

    Raises:
        UserError: as `constrained_beam_search`.
    """
    check_search(model, inputs, index, normalization)
    prompts = read_prompts(model, inputs, keep_hidden=callable(bonus))
    scorer = Scorer(prompts.head, index.tensors.vocabulary, normalization)
    scores: list[dict[tuple[int, ...], float]] = [{} for _ in wanted]
    distinct = [sorted(set(own)) for own in wanted]
    for first in range(0, max(map(len, distinct), default=0), SEQUENCES_PER_PASS):
        chunks = [own[first : first + SEQUENCES_PER_PASS] for own in distinct]
        for known, own, found in zip(scores, chunks, _score(prompts, scorer, index, chunks), strict=True):
            known.update(zip(own, found, strict=True))
    made = bonus(prompts) if callable(bonus) else bonus
    plain = [[known[sequence] for sequence in own] for known, own in zip(scores, wanted, strict=True)]
    return Rescored(plain, None if made is None else _bonuses(index, made, wanted))


def _bonuses(index: IdentifierIndex, bonus: Bonus, wanted: Sequence[Sequence[tuple[int, ...]]]) -> list[list[float]]:
    """Return the bonus of each query's sequences."""
    most = max(map(len, wanted), default=0)
    leaves = [[index.leaf(sequence) for sequence in own] + [ROOT] * (most - len(own)) for own in wanted]
    laid_out = torch.tensor(leaves, device=index.device, dtype=torch.long).reshape(len(wanted), most)
    totals = bonus.total(index.tensors, laid_out).tolist()
    return [row[: len(own)] for row, own in zip(totals, wanted, strict=True)]


def _score(
    prompts: Prompts, scorer: Scorer, index: IdentifierIndex, chunks: Sequence[Sequence[tuple[int, ...]]]
) -> list[list[float]]:
    """Return the scores of each query's sorted sequences, read in one pass."""
    trees = [next(trees_of(list(own), index, len(own) * index.max_length)) for own in chunks]
    states = _read(prompts, trees)
    device, width = prompts.mask.device, states.shape[1]
    steps = [(query * width + node + 1, dense) for query, tree in enumerate(trees) for node, dense in tree.steps]
    rows, tokens = torch.tensor(steps, device=device).reshape(-1, 2).unbind(1)
    gains = scorer.log_probabilities(states.flatten(0, 1), rows, tokens)
    lengths = [len(sequence) for own in chunks for sequence in own]
    totals = iter([part.sum().item() for part in gains.cpu().split(lengths)])
    return [[next(totals) for _ in own] for own in chunks]


def _read(prompts: Prompts, trees: Sequence[Tree]) -> torch.Tensor:
    """Return the states behind each prompt and the nodes of its tree (Q, 1 + R, ...); the cache is as before."""
    size, device = max(len(tree.tokens) for tree in trees), prompts.mask.device
    if size == 0:
        return prompts.states[:, None]
    tokens = torch.zeros((len(trees), size), dtype=torch.long)
    depths = torch.zeros_like(tokens)
    visible = torch.eye(size, dtype=torch.bool).repeat(len(trees), 1, 1)  # what pads a row sees itself
    for row, tree in enumerate(trees):
        tokens[row, : len(tree.tokens)] = torch.tensor(tree.tokens, dtype=torch.long)
        for node, ancestors in enumerate(tree.ancestors):
            visible[row, node, ancestors] = True
            depths[row, node] = len(ancestors) - 1
    states = read_tree(prompts, tokens.to(device), depths.to(device), visible.to(device))
    prompts.cache.crop(-size)
    return torch.cat([prompts.states[:, None].to(states.dtype), states], dim=1)
