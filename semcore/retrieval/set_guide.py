"""Guide by a set head: the weights of an identifier's units for a query, from the states of its prompt (ComGTIR).

Shapes: Q queries, N items, U units of the set vocabulary, K units of an item at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from semcore.decoding.bonus import Bonus, BonusOf
from semcore.decoding.cached_model import Prompts
from semcore.decoding.guides import GuideMode, look_ahead, released_form, token_by_token, weights_in_use
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.potentials import ItemSequences, best_by_sequence
from semcore.runtime.errors import UserError

NO_TOKEN = -1


@dataclass(frozen=True)
class SetGuide:
    """A guide by the units of identifiers.

    Attributes:
        index: the corpus's.
        sequences: of the items.
        units: numbers of each item's units, -1 where it has fewer (N, K).
        tokens: token id of each unit, `NO_TOKEN` where a unit is several tokens (U,).
        weigh: weights of all units, 0 or more, from the prompts' states (Q, U).
        mode: how it enters the search.
        best: how many identifiers the released form looks at.
    """

    index: IdentifierIndex
    sequences: ItemSequences
    units: torch.Tensor
    tokens: torch.Tensor
    weigh: Callable[[Prompts], torch.Tensor]
    mode: GuideMode = "lookahead"
    best: int = 500

    def bonus(self, queries: Sequence[str], weight: float) -> BonusOf:
        """Return what makes the bonus of these queries from their prompts."""
        return lambda prompts: self._of(self.weigh(prompts).float(), weight)

    def _of(self, weights: torch.Tensor, weight: float) -> Bonus:
        if self.mode == "lookahead":
            scores = mean_or_sum(weights, self.units.to(weights.device))
            return look_ahead(self.index, best_by_sequence(self.index, self.sequences, scores), weight)
        known = self.tokens != NO_TOKEN
        in_use = weights_in_use(self.index, self.tokens[known], weight * weights[:, known.to(weights.device)])
        if self.mode == "tokens":
            return token_by_token(self.index, in_use)
        return released_form(self.index, in_use, best=self.best)


def mean_or_sum(weights: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
    """Return each item's score, (Q, N): the sum over its units, or their mean where items have unequally many.

    Args:
        weights: of every unit for each query (Q, U).
        units: numbers of the items' units, -1 where an item has fewer (N, K).
    """
    padded = torch.cat([weights, weights.new_zeros(len(weights), 1)], dim=1)
    scores = weights.new_zeros(len(weights), len(units))
    for column in units.unbind(1):  # one at a time: (Q, N, K) could be large
        scores += padded[:, column]
    counts = (units >= 0).sum(1)
    return scores if len(counts.unique()) < 2 else scores / counts.clamp(min=1)


def check_units(mode: GuideMode, units: Sequence[str], tokens: torch.Tensor) -> None:
    """Refuse a search token by token where units are several tokens.

    Args:
        mode: how the guide enters the search.
        units: the set vocabulary (U,).
        tokens: the token of each (U,).

    Raises:
        UserError: a unit is not one token.
    """
    several = [unit for unit, token in zip(units, tokens.tolist(), strict=True) if token == NO_TOKEN]
    if mode != "lookahead" and several:
        raise UserError(
            f"--guide.mode {mode} adds up weights of tokens, and {len(several)} of the {len(units)} units of these "
            f"identifiers are several tokens, {several[0]!r} for one: choose --guide.mode lookahead"
        )
