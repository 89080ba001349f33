"""The plan of an evaluation: what of a run is measured, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semcore.data.directions import Direction
from semcore.models.inference import Dtype
from semcore.retrieval.generator import Engine
from semcore.retrieval.prior_settings import PriorChoice
from semcore.retrieval.verifiers import VerifierName


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """What is measured, and how.

    Attributes:
        split: whose items are searched with its queries.
        directions: that are measured.
        limit: queries a direction, drawn at random; None for all.
        folds: also search so many folds of the split, each by itself; None for no folds.
        num_beams: width of the beam.
        constraint: whether only identifiers that exist can be written.
        engine: who searches.
        batch_size: queries searched at once.
        prior_weight: how much of log p(identifier) comes off the generator's score: "fit" on val, or a number.
        num_prior_queries: training queries a direction that the prior is the mean over.
        prior_seed: of their draw.
        prior_in_search: whether the prior comes off in the beam search already.
        num_candidates: how many of the best are verified.
        verifiers: that are measured.
        other_models: verifier -> its model, where it is not the run's own.
        shifts: cyclic shifts of the candidates that a listwise verifier is asked over.
        fusion: "val" where the fused order counts, "none" where the verifier's own does.
        num_val_queries: queries a direction of val that fusions are fitted on.
        num_order_queries: queries a direction that a listwise verifier is asked in other orders.
        order_bias_untrained: measure order bias on the model that the listwise verifier was trained from too.
        ablations: measure what remains without verification and without the trie.
        num_ablation_queries: queries a direction for the search without the trie.
        baselines: dense retrieval to measure beside, by name.
        dtype: precision of the models.
        device: where they run; the fastest there is where None.
        base: where the checkpoint that the run was made with is now, None where it was.
    """

    split: str
    directions: tuple[Direction, ...]
    limit: int | None
    folds: int | None
    num_beams: int
    constraint: bool
    engine: Engine
    batch_size: int
    prior_weight: PriorChoice
    num_prior_queries: int
    prior_seed: int
    prior_in_search: bool
    num_candidates: int
    verifiers: tuple[VerifierName, ...]
    other_models: Mapping[str, str]
    shifts: int
    fusion: Literal["val", "none"]
    num_val_queries: int
    num_order_queries: int
    order_bias_untrained: bool
    ablations: bool
    num_ablation_queries: int
    baselines: tuple[str, ...]
    dtype: Dtype
    device: str | None
    base: Path | None
