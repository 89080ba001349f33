"""Steps of one identifier's path: what each of its tokens costs, and what the other branches would have cost.

Shapes: Q = 1 query, T tokens of the identifier, the end token included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from semcore.decoding.cached_model import read_prompts, read_tree
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.preconditions import check_search
from semcore.decoding.scoring import Normalization, Scorer


class Branch(NamedTuple):
    """A token that may follow a prefix, and its log-probability given the query and the prefix."""

    token: int
    log_probability: float


class PathStep(NamedTuple):
    """One token of an identifier; `others` are the tokens that were allowed instead of it, the likeliest first."""

    taken: Branch
    others: list[Branch]


@torch.inference_mode()
def path_steps(
    model: Any,
    inputs: Mapping[str, Any],
    index: IdentifierIndex,
    sequence: Sequence[int],
    normalization: Normalization = "vocabulary",
) -> list[PathStep]:
    """Score an identifier token by token for one query, beside the branches of the prefix tree that it does not take.

    The sum over the tokens is the identifier's score in a search of any width, with no prior taken off.

    Args:
        model: a decoder-only Hugging Face model, in evaluation mode.
        inputs: the keyword arguments of `model(**inputs)` for one query, images included.
        index: the identifiers, on the model's device.
        sequence: one of them.
        normalization: as in `constrained_beam_search`.

    Raises:
        UserError: as `constrained_beam_search`.
        ValueError: there are several queries, or the index lacks the sequence.
    """
    check_search(model, inputs, index, normalization)
    if index.leaf(sequence) < 0:
        raise ValueError(f"the identifier {tuple(sequence)} is not in the index")
    prompts = read_prompts(model, inputs)
    if len(prompts.mask) != 1:
        raise ValueError(f"the steps of one query are scored at a time, found {len(prompts.mask)}")
    states = prompts.states
    if len(sequence) > 1:
        tokens = torch.tensor([list(sequence[:-1])], device=states.device)
        size = tokens.shape[1]
        visible = torch.ones((1, size, size), dtype=torch.bool, device=states.device).tril()
        depths = torch.arange(size, device=states.device)[None]
        states = torch.cat([states, read_tree(prompts, tokens, depths, visible)[0]])
    scorer = Scorer(prompts.head, index.tensors.vocabulary, normalization)
    return [_step(scorer, states, index, sequence, place) for place in range(len(sequence))]


def _step(
    scorer: Scorer, states: torch.Tensor, index: IdentifierIndex, sequence: Sequence[int], place: int
) -> PathStep:
    allowed = index.allowed_tokens(sequence[:place])
    dense = torch.from_numpy(np.searchsorted(index.trie.vocabulary, allowed)).to(states.device)
    scores = scorer.log_probabilities(states, torch.full_like(dense, place), dense).tolist()
    branches = sorted(map(Branch, allowed, scores), key=lambda branch: -branch.log_probability)
    [taken] = [branch for branch in branches if branch.token == sequence[place]]
    return PathStep(taken, [branch for branch in branches if branch is not taken])
