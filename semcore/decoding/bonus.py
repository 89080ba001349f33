"""Bonuses of a beam search: what it adds to the log-probabilities of its paths, as the paths get longer.

A bonus says what the first path of a query begins with, what a step and a token of a tail add, and the most that a
path can still gain, so that the search may drop what cannot come back. Two kinds exist: the identifiers' prior that
comes off every score (`semcore.decoding.prior_correction`), and guides that know the query
(`semcore.decoding.guides`). Several add up.

Shapes: Q queries, B beams, c continuations, t tokens of tails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from semcore.decoding.beam_state import Beams, Continuations
from semcore.decoding.cached_model import Prompts
from semcore.decoding.forward_rows import TailRows
from semcore.decoding.trie_tensors import TrieTensors


class Bonus(Protocol):
    """What a search adds to the scores of its paths."""

    def start(self) -> torch.Tensor | None:
        """Return what each query's search begins with (Q,); None for nothing."""

    def of_steps(self, trie: TrieTensors, beams: Beams, steps: Continuations) -> torch.Tensor:
        """Return what each step from an inner node adds (c,); what it says of steps along tails is not used."""

    def of_tails(self, trie: TrieTensors, beams: Beams, tails: TailRows) -> torch.Tensor:
        """Return what each token of a tail adds (t,)."""

    def bound(self, trie: TrieTensors, beams: Beams) -> torch.Tensor | float | None:
        """Return the most that each path can still gain, (Q, B) or one number for all; None where it is not known."""

    def total(self, trie: TrieTensors, leaves: torch.Tensor) -> torch.Tensor:
        """Return the bonus of whole paths: of the leaves that they end on (Q, B), in the same shape."""


BonusOf = Callable[[Prompts], Bonus]
"""Makes the bonus of a batch of queries from what the model has made of their prompts (`Prompts.hidden`)."""


@dataclass(frozen=True)
class Sum:
    """Several bonuses added up."""

    parts: Sequence[Bonus]

    def start(self) -> torch.Tensor | None:
        """Return the sum of what the parts begin with (Q,)."""
        starts = [own for part in self.parts if (own := part.start()) is not None]
        return torch.stack(starts).sum(0) if starts else None

    def of_steps(self, trie: TrieTensors, beams: Beams, steps: Continuations) -> torch.Tensor:
        """Return the sum of what the parts add for each step (c,)."""
        return torch.stack([part.of_steps(trie, beams, steps) for part in self.parts]).sum(0)

    def of_tails(self, trie: TrieTensors, beams: Beams, tails: TailRows) -> torch.Tensor:
        """Return the sum of what the parts add for each token of a tail (t,)."""
        return torch.stack([part.of_tails(trie, beams, tails) for part in self.parts]).sum(0)

    def bound(self, trie: TrieTensors, beams: Beams) -> torch.Tensor | float | None:
        """Return the sum of the parts' bounds (Q, B); None where one of them has none."""
        total: torch.Tensor | float = 0.0
        for part in self.parts:
            own = part.bound(trie, beams)
            if own is None:
                return None
            total = total + own
        return total

    def total(self, trie: TrieTensors, leaves: torch.Tensor) -> torch.Tensor:
        """Return the sum of the parts' bonuses of whole paths (Q, B)."""
        return torch.stack([part.total(trie, leaves) for part in self.parts]).sum(0)


def added(*parts: Bonus | BonusOf | None) -> Bonus | BonusOf | None:
    """Return the sum of those bonuses that are there, None without any."""
    present = [part for part in parts if part is not None]
    if len(present) < 2:
        return present[0] if present else None

    def of_prompts(prompts: Prompts) -> Bonus:
        return Sum([part(prompts) if callable(part) else part for part in present])

    return of_prompts
