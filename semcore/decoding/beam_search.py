"""Beam search over identifiers (paper, algorithm 1) that reads each prompt once and scores only identifiers' tokens.

Every score is exact: the sum of the model's log-probabilities of the sequence's tokens given the prompt, and a bonus
where one is asked for (`semcore.decoding.bonus`). The paths are those of a step-by-step beam search of the same width.
Among equal scores the path with the smaller tokens wins, on every device.

Shapes: Q queries, B beams, c continuations, n rows of a forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from semcore.decoding.beam_state import (
    Beams,
    Continuations,
    Finished,
    candidates,
    collect,
    continuations,
    follow_tails,
    prune,
    start,
    survivors,
    with_slots,
    with_tails,
)
from semcore.decoding.bonus import Bonus, BonusOf
from semcore.decoding.cached_model import Prompts, read_prompts, read_tree
from semcore.decoding.forward_rows import TailRows, rows_to_read, tail_rows
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.preconditions import check_at_least_one, check_search
from semcore.decoding.scoring import Normalization, Scorer
from semcore.decoding.trie import STOP
from semcore.decoding.trie_tensors import TrieTensors

Watch = Callable[[Beams, Beams], None]
"""Is told after every token which paths have survived, and which of these can still be among the wanted ones."""


@torch.inference_mode()
def constrained_beam_search(
    model: Any,
    inputs: Mapping[str, Any],
    index: IdentifierIndex,
    num_beams: int = 20,
    normalization: Normalization = "vocabulary",
    top_k: int | None = None,
    bonus: Bonus | BonusOf | None = None,
    watch: Watch | None = None,
) -> SearchResult:
    """Find the identifiers a model is most likely to generate for each query.

    Args:
        model: a decoder-only Hugging Face model, in evaluation mode.
        inputs: the left-padded keyword arguments of `model(**inputs)` for Q queries, images included.
        index: the identifiers, on the model's device.
        num_beams: width of the beam (the paper's tables use 50).
        normalization: the tokens over which probabilities are normalised: the whole `"vocabulary"` (the paper's
            score), or the tokens that occur in `"identifiers"`.
        top_k: sequences to return per query; all `num_beams` if None. Fewer need less work.
        bonus: added to the scores of paths, in the search already, and made for this index: by `correction_of`, which
            takes the identifiers' prior off, or by `semcore.decoding.guides`; or a function that makes it from the
            prompts' states. The paper's score has none.
        watch: is shown the paths of all queries token by token, as long as any of them can displace another
            (`semcore.decoding.prefix_retention`).

    Raises:
        UserError: `num_beams` is below 1, the normalisation unknown, the prompt longer than the model's positions, or
            model and index do not fit each other.
    """
    check_at_least_one("num_beams", num_beams)
    wanted = num_beams if top_k is None else min(top_k, num_beams)
    check_at_least_one("top_k", wanted)
    check_search(model, inputs, index, normalization)
    prompts = read_prompts(model, inputs, keep_hidden=callable(bonus))
    made = bonus(prompts) if callable(bonus) else bonus
    finished = _search(prompts, index, num_beams, normalization, wanted, made, watch)
    return _result(index, finished, wanted, made)


def _search(
    prompts: Prompts,
    index: IdentifierIndex,
    num_beams: int,
    normalization: Normalization,
    top_k: int,
    bonus: Bonus | None,
    watch: Watch | None,
) -> Finished:
    trie, num_queries = index.tensors, len(prompts.mask)
    scorer = Scorer(prompts.head, trie.vocabulary, normalization)
    beams, finished = start(num_queries, num_beams, index.max_length, prompts.mask.device)
    if bonus is not None and (first := bonus.start()) is not None:
        beams = replace(beams, scores=beams.scores + first[:, None])
    states, tails = prompts.states, None
    state_of_beam = torch.arange(num_queries, device=states.device).repeat_interleave(num_beams)
    for depth in range(index.max_length + 1):
        steps = continuations(trie, beams)
        gains, beams = _score(trie, scorer, beams, steps, states, state_of_beam, tails, bonus)
        if not bool(steps.branching.any()):
            break
        found = candidates(trie, beams, steps, gains)
        finished = collect(trie, beams, found, finished, depth)
        survived = survivors(trie, beams, found, depth)
        bound = 0.0 if bonus is None else bonus.bound(trie, survived)
        beams = survived if bound is None else prune(survived, finished, top_k, bound)
        if watch is not None:
            watch(survived, beams)
        rows = rows_to_read(trie, beams, prompts.num_cached)
        tails = None
        if rows is not None:
            states = read_tree(prompts, rows.tokens, rows.depths, rows.visible)[rows.queries, rows.columns]
            state_of_beam, tails = rows.first_row, tail_rows(trie, beams, rows)
            beams = with_slots(beams, rows.slots)
    return follow_tails(trie, beams, finished)


def _score(
    trie: TrieTensors,
    scorer: Scorer,
    beams: Beams,
    steps: Continuations,
    states: torch.Tensor,
    state_of_beam: torch.Tensor,
    tails: TailRows | None,
    bonus: Bonus | None,
) -> tuple[torch.Tensor, Beams]:
    """Return what each continuation's token adds to the score (c,), and the beams with their new tails scored.

    A `STOP` has no token and costs nothing; steps along a tail were scored with the tail.
    """
    tokens = trie.node_token[steps.nodes].long()
    wanted = steps.branching & (tokens != STOP)
    pairs = [(state_of_beam[steps.owners[wanted]], tokens[wanted])]
    if tails is not None:
        pairs.append((tails.rows, tails.tokens))
    rows, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    scored = scorer.log_probabilities(states, rows, targets)
    gains = torch.zeros(len(tokens), device=scored.device)
    num_steps = len(pairs[0][0])
    gains[wanted] = scored[:num_steps]
    if bonus is not None:
        gains += bonus.of_steps(trie, beams, steps)
    if tails is None:
        return gains, beams
    along = scored[num_steps:]
    if bonus is not None:
        along = along + bonus.of_tails(trie, beams, tails)
    return gains, with_tails(beams, tails.beams, tails.places, along)


def _result(index: IdentifierIndex, finished: Finished, top_k: int, bonus: Bonus | None) -> SearchResult:
    scores = finished.scores.cpu()
    totals = None if bonus is None else bonus.total(index.tensors, finished.nodes.long()).cpu()
    sequences, leaves, own_bonuses = [], [], []
    for query, (own, nodes, paths) in enumerate(
        zip(scores.tolist(), finished.nodes.tolist(), finished.paths.tolist(), strict=True)
    ):
        found = [
            (-score, index.sequence(leaf, path), leaf, place)
            for place, (score, leaf, path) in enumerate(zip(own, nodes, paths, strict=True))
            if score > -torch.inf
        ]
        best = sorted(found)[:top_k]
        sequences.append([sequence for _, sequence, _, _ in best])
        leaves.append([leaf for _, _, leaf, _ in best])
        if totals is not None:
            own_bonuses.append([float(totals[query, place]) for _, _, _, place in best])
    return SearchResult(sequences, leaves, scores[:, :top_k], None if totals is None else own_bonuses)


@dataclass(frozen=True)
class SearchResult:
    """The identifiers found for each query, best first."""

    sequences: list[list[tuple[int, ...]]]
    """For each query its token sequences, end token included; fewer than `num_beams` where the corpus has fewer."""
    leaves: list[list[int]]
    """The leaf of each sequence in the index, from which `IdentifierIndex.items_of_leaf` has its items."""
    scores: torch.Tensor
    """Sums of log-probabilities and of what a bonus adds, float32 (queries, beams), on the CPU; -inf where a query has
    fewer sequences."""
    bonuses: list[list[float]] | None = None
    """For each query the part of its sequences' scores that a bonus has added; None without one."""
