"""Plan of an evaluation: its settings as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semcore.data.directions import Direction
from semcore.models.inference import Dtype
from semcore.models.run_checkpoints import GeneratorName
from semcore.models.verifier_registry import VerifierName
from semcore.retrieval.candidates import CandidateSettings
from semcore.retrieval.generator import Engine
from semcore.retrieval.guides import GuideSettings
from semcore.retrieval.prior_settings import PriorChoice

ValCorpus = Literal["filled", "own"]


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """Settings of an evaluation.

    Attributes:
        split: whose items are searched with its queries.
        directions: that are measured.
        generator: which model searches: the identifier model, the ranked one, or the ranked one where it is trained.
        limit: queries a direction, drawn at random; None for all.
        folds: also search so many folds of the split, each by itself; None for no folds.
        num_beams: width of the beam.
        constraint: whether only existing identifiers can be generated.
        engine: the beam-search backend.
        batch_size: queries searched at once.
        prior_weight: share of log p(identifier) that comes off the generator's score: "fit" on val, or a number.
        num_prior_queries: training queries per direction that the prior is the mean over.
        prior_seed: seed of their draw.
        prior_in_search: whether the prior comes off in the beam search already.
        guide: what guides the search, without its weights.
        guide_weight: of the guide: "fit" on val, or a number.
        candidates: where the candidates come from.
        num_candidates: how many of the best hits are verified.
        verifiers: the verifiers to measure.
        other_models: verifier -> its model, where it is not the run's own.
        shifts: direction -> cyclic shifts of the candidates that a listwise verifier is averaged over.
        fusion: "val" for the fused order as the final one, "none" for the verifier's own.
        num_val_queries: queries of val per direction on which fusions are fitted.
        val_corpus: what they are searched in: val's items with training items besides, as many in all as the measured
            split has ("filled"), or val's "own".
        num_order_queries: queries per direction of the order probes.
        order_bias_untrained: measure order bias on the model that the listwise verifier was trained from too.
        ablations: measure the ablations without verification and without the trie.
        num_ablation_queries: queries per direction of the search without the trie.
        num_no_match_queries: queries per direction and split whose items are taken out of the corpus; 0 for none.
        no_match_refused: share of val's queries with an answer, 0 to 1, that the threshold of "no match" may refuse.
        num_retention_queries: queries per direction that are followed down the beams; 0 for none.
        num_exhaustive_queries: queries per direction that are searched exhaustively too; None for as many as a small
            corpus allows.
        cost: measure seconds and memory against the width of the beam and the size of the corpus.
        baselines: names of dense baselines to measure.
        dtype: precision of the models.
        device: their device; None for the fastest one.
        base: present path of the checkpoint that the run was made with, None if it has not moved.
    """

    split: str
    directions: tuple[Direction, ...]
    generator: GeneratorName
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
    guide: GuideSettings
    guide_weight: Literal["fit"] | float
    candidates: CandidateSettings
    num_candidates: int
    verifiers: tuple[VerifierName, ...]
    other_models: Mapping[str, str]
    shifts: Mapping[Direction, int]
    fusion: Literal["val", "none"]
    num_val_queries: int
    val_corpus: ValCorpus
    num_order_queries: int
    order_bias_untrained: bool
    ablations: bool
    num_ablation_queries: int
    num_no_match_queries: int
    no_match_refused: float
    num_retention_queries: int
    num_exhaustive_queries: int | None
    cost: bool
    baselines: tuple[str, ...]
    dtype: Dtype
    device: str | None
    base: Path | None
