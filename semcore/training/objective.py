"""Objective of an identifier model's training: the cross-entropy, and what neighbouring papers add to it.

Shapes: B rows, L tokens of the longest, W tokens of the longest window, E examples of the batch, K units of an item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from semcore.models.attention_masks import pad
from semcore.models.set_head import padded_units
from semcore.training.packing import IGNORED, Row

SetLossName = Literal["codes", "items"]
RankingLossName = Literal["contrastive", "hinge"]

EXAMPLES, PROMPT_OF, SET_TARGETS, RIGHT_ANSWERS = "examples", "prompt_of", "set_targets", "right_answers"
KEYS = (EXAMPLES, PROMPT_OF, SET_TARGETS, RIGHT_ANSWERS)
SHARED, NO_EXAMPLE = -2, -1


@dataclass(frozen=True)
class Ranking:
    """Ranking of the right identifier among those that a search found (AVG, section 3.2, equations 8 to 10).

    Attributes:
        loss: "contrastive" or "hinge".
        weight: of the ranking loss.
        temperature: of the contrastive one.
        margin: of the hinge.
        num_queries: queries of a step, over all processes; by default those of the batch.
    """

    loss: RankingLossName = "contrastive"
    weight: float = 0.5
    temperature: float = 1.0
    margin: float = 5.0
    num_queries: int | None = None


@dataclass(frozen=True)
class Objective:
    """What is minimised; the default is the cross-entropy of the identifiers' tokens.

    Attributes:
        temperature: logits are divided by it.
        rdrop: weight of the divergence between two passes over each row.
        set_weight: weight of the set head's loss.
        set_loss: "codes" or "items".
        ranking: of what a search found; rows are then queries with their candidates.
    """

    temperature: float = 1.0
    rdrop: float = 0.0
    set_weight: float = 0.0
    set_loss: SetLossName = "codes"
    ranking: Ranking | None = None

    @property
    def num_copies(self) -> int:
        """Return how often each row stands in a batch."""
        return 2 if self.rdrop > 0 else 1


def objective_keys(
    rows: Sequence[Row], batch: Mapping[str, Any], *, reads_units: bool = False
) -> dict[str, torch.Tensor]:
    """Return the entries of a batch that only the objective reads; {} where it needs none.

    examples (B, W)       number of the example of each label, -1 where there is none
    prompt_of (B, L)      example of each prompt token, -2 for all of the row, -1 for no prompt
    set_targets (E, K)    units of each example's item, -1 pads; only with a set head
    right_answers (E,)    whether the example's answer is a right identifier; only with candidates
    labels (B, W)         the right answers' labels alone; only with candidates

    Args:
        rows: B rows.
        batch: what `collate` made of them.
        reads_units: a set head is trained.
    """
    has_candidates = any(row.num_right for row in rows)
    if not reads_units and not has_candidates:
        return {}
    examples, prompts = [], []
    units: list[Sequence[int]] = []
    right: list[bool] = []
    for row in rows:
        start, first = len(row.input_ids) - len(row.labels), len(right)
        branches = [NO_EXAMPLE if branch == 0 else first + branch - 1 for branch in row.branches]
        examples.append(branches[start:])
        prompts.append(_prompt_tokens(branches, start))
        num_examples = max(row.branches, default=0)
        units.extend(row.units or [()] * num_examples)
        right.extend(number < row.num_right for number in range(num_examples))
    window, length = batch["labels"].shape[1], batch["input_ids"].shape[1]
    keys = {
        EXAMPLES: pad(examples, NO_EXAMPLE, "left", window),
        PROMPT_OF: pad(prompts, NO_EXAMPLE, "left", length),
    }
    if reads_units:
        keys[SET_TARGETS] = padded_units(units)
    if has_candidates:
        keys[RIGHT_ANSWERS] = torch.tensor(right)
        of_right = torch.tensor([*right, False])[keys[EXAMPLES]]  # the last one is for -1
        keys["labels"] = batch["labels"].masked_fill(~of_right, IGNORED)
    return keys


def _prompt_tokens(branches: Sequence[int], start: int) -> list[int]:
    """Return `prompt_of` of a row whose window begins at `start`, where each example's last prompt token stands."""
    before = [SHARED if example == NO_EXAMPLE else example for example in branches[:start]]
    window = branches[start:]
    lasts = [
        example if place == 0 or window[place - 1] != example else NO_EXAMPLE for place, example in enumerate(window)
    ]
    return before + lasts
