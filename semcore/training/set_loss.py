"""Loss of the set head on packed rows (ComGTIR, section 4.2).

Shapes: B rows, L tokens of the longest, H the text model's hidden size, E examples, U units, K units of an item.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from semcore.models.set_head import Pool
from semcore.training.objective import SHARED, SetLossName


def pool_packed(states: torch.Tensor, prompt_of: torch.Tensor, num_examples: int, pool: Pool) -> torch.Tensor:
    """Return the vector (E, H) that `semcore.models.set_head.pool_prompts` makes of each example's prompt alone.

    Args:
        states: the last states of packed rows (B, L, H).
        prompt_of: example of each token, -2 for all examples of the row, -1 for none (B, L).
        num_examples: E.
        pool: "max" over the prompt's tokens, or the "last" one's state.
    """
    rows, places = (prompt_of >= 0).nonzero(as_tuple=True)
    owners = prompt_of[rows, places]
    row_of = rows.new_zeros(num_examples).scatter(0, owners, rows)
    if pool == "last":
        last = places.new_zeros(num_examples).scatter_reduce(0, owners, places, "amax")
        return states[row_of, last]
    lowest = torch.finfo(states.dtype).min
    shared = states.masked_fill((prompt_of != SHARED)[:, :, None], lowest).amax(1)
    own = states.new_full((num_examples, states.shape[-1]), lowest)
    own = own.scatter_reduce(0, owners[:, None].expand(-1, states.shape[-1]), states[rows, places], "amax")
    return torch.maximum(shared[row_of], own)


def set_losses(logits: torch.Tensor, targets: torch.Tensor, kind: SetLossName) -> torch.Tensor:
    """Return the loss of each example, 0 where it has no unit, (E,).

    "codes": -1/M sum_k log softmax(z)_{u_k}, over the raw logits (ComGTIR's code, stage 2; over log(1 + relu(z)), as
    its stage 3 has it, a right unit with a negative logit would have no gradient).
    "items": -log softmax_m s(q, m) over the different items of the batch (closest to equation 8, without a teacher).

    Args:
        logits: z, (E, U).
        targets: units of each example's item, -1 pads (E, K).
        kind: which loss.
    """
    known = targets >= 0
    counts = known.sum(1)
    if kind == "codes":
        log_probs = logits.log_softmax(-1).gather(1, targets.clamp(min=0))
        return -(log_probs * known).sum(1) / counts.clamp(min=1)
    present = counts > 0
    losses = 0 * logits.sum(1)  # of the head, which all processes train together, even where it learns nothing
    if not bool(present.any()):
        return losses
    items, own = _as_sets(targets[present], logits.shape[1]).unique(dim=0, return_inverse=True)
    scores = logits[present].relu().log1p() @ items.to(logits.dtype).T
    return losses.masked_scatter(present, functional.cross_entropy(scores, own, reduction="none"))


def _as_sets(targets: torch.Tensor, num_units: int) -> torch.Tensor:
    """Return which units each item has, (E, U)."""
    marks = targets.new_zeros(len(targets), num_units + 1, dtype=torch.bool)
    return marks.scatter(1, targets.where(targets >= 0, num_units), True)[:, :num_units]
