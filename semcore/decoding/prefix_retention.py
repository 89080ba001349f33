"""Prefix retention: after how many tokens an identifier that should be found leaves the beams.

A beam search loses an identifier where a prefix of it is not among the B best of its length; what comes later cannot
bring it back. An identifier that is never lost may still be outranked: B others have a better score in the end.

Shapes: Q queries, B beams, T targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from semcore.decoding.beam_search import SearchResult
from semcore.decoding.beam_state import Beams
from semcore.decoding.index import IdentifierIndex


class Retention(NamedTuple):
    """The course of one identifier through a search.

    Attributes:
        num_tokens: its length, the end token included.
        lost_at: the length of its first prefix that was not among the beams, from 1; None if all were.
        found: whether it is in the result. Neither lost nor found: it was outranked by whole identifiers.
        last_scores: after each token that was watched, the score of the last beam; the others are no lower.
    """

    num_tokens: int
    lost_at: int | None
    found: bool
    last_scores: tuple[float, ...]

    def retained(self, depth: int) -> bool:
        """Return whether the prefix of `depth` tokens was kept; the whole identifier is where it was found."""
        if depth >= self.num_tokens:
            return self.found
        return self.lost_at is None or depth < self.lost_at


@dataclass
class RetentionWatch:
    """Follows identifiers through one search, as its `watch`; `results` has what became of them.

    Args:
        index: what is searched.
        targets: for each query the identifiers to follow, as token sequences of the index.

    Raises:
        ValueError: a target is not in the index.
    """

    index: IdentifierIndex
    targets: Sequence[Sequence[Sequence[int]]]

    def __post_init__(self) -> None:
        owned = [(query, tuple(own)) for query, wanted in enumerate(self.targets) for own in wanted]
        for _, own in owned:
            if self.index.leaf(own) < 0:
                raise ValueError(f"the identifier {own} is not in the index")
        self._owners = torch.tensor([query for query, _ in owned], dtype=torch.long, device=self.index.device)
        self._sequences = [own for _, own in owned]
        self._trails = [[self.index.find(own[:length]) for length in range(1, len(own))] for own in self._sequences]
        self._lost_at: list[int | None] = [None] * len(owned)
        self._set_aside = [False] * len(owned)
        self._last: list[list[float]] = []
        self._depth = 0

    def __call__(self, survived: Beams, kept: Beams) -> None:
        """Note which targets have survived one more token; `kept` is what is left without hopeless paths."""
        self._depth += 1
        live = survived.scores.masked_fill(survived.scores == -torch.inf, torch.inf)
        self._last.append(live.min(dim=1).values.tolist())
        if not self._sequences:
            return
        there, still = (self._among(beams).tolist() for beams in (survived, kept))
        for number, trail in enumerate(self._trails):
            if self._depth > len(trail) or self._lost_at[number] is not None or self._set_aside[number]:
                continue
            if not there[number]:
                self._lost_at[number] = self._depth
            elif not still[number]:
                self._set_aside[number] = True

    def results(self, found: SearchResult) -> list[list[Retention]]:
        """Return what became of every target of every query.

        Args:
            found: the result of the search that was watched.
        """
        rows: list[list[Retention]] = [[] for _ in self.targets]
        for number, (query, own) in enumerate(zip(self._owners.tolist(), self._sequences, strict=True)):
            last = tuple(scores[query] for scores in self._last)
            is_found = self.index.leaf(own) in found.leaves[query]
            rows[query].append(Retention(len(own), self._lost_at[number], is_found, last))
        return rows

    def _among(self, beams: Beams) -> torch.Tensor:
        """Return whether each target's prefix of the present length is among its query's beams (T,)."""
        places = [trail[min(self._depth, len(trail)) - 1] if trail else (0, 0) for trail in self._trails]
        nodes, used = torch.tensor(places, device=self._owners.device).unbind(dim=1)
        same = (beams.nodes[self._owners] == nodes[:, None]) & (beams.tail_used[self._owners] == used[:, None])
        return (same & (beams.scores[self._owners] > -torch.inf)).any(dim=1)
