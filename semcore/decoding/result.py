"""What a search gives back (Contract 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SearchResult:
    """The identifiers found for each query, best first."""

    sequences: list[list[tuple[int, ...]]]
    """For each query its token sequences, end token included; fewer than `num_beams` where the corpus has fewer."""
    scores: torch.Tensor
    """Sums of log-probabilities, float32 (queries, beams), on the CPU; -inf where a query has fewer sequences."""
