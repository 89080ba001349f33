"""Measure a run, in the directions that it was trained for, and write its report.

    semcore evaluate --run RUN
    semcore evaluate --run RUN --verifier all --num-beams 50
    semcore evaluate --run RUN --fusion none
    semcore evaluate --run RUN --guide.kind words --candidates.source both
    semcore evaluate --run RUN --verifier itm --itm-model Salesforce/blip-itm-base-coco
    semcore evaluate --run RUN --directions [t2i]
    semcore evaluate --run RUN --folds 5 --baselines [sentence-encoder,openai/clip-vit-base-patch32]
    accelerate launch recipes/evaluate.py --config recipes/configs/scenes.yaml --data DATA --run RUN

Searches the items of one split with its own queries: beams, then verification of the best ten. The verified ranking is
by the fused scores of verifier and generator, with weights fitted on val; in the paper the verifier alone decides,
which is `--fusion none`. Both are always in metrics.json. Where val itself is measured, each fifth of it is ranked with
weights fitted on the other four. A query without a retrievable relevant item counts as a miss. Writes into RUN

    t2i/  i2t/                 run.generated.trec, run.verified.trec, qrels.trec, per_query.jsonl
    metrics.json               scores of the chosen verifiers, fused and alone, order bias, ablations, the ceiling
    verification.json          each verifier's shifts, and its fusion with the generator, fitted on val
    report.md  report.html     the same to read, with examples

A killed evaluation goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from semcore.commands.arguments import require_minimum, resolved
from semcore.commands.measure_run import measure_run
from semcore.commands.search_options import CandidateOptions, GuideOptions
from semcore.commands.verifier_models import VerifierModelSettings, named_models
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction, DirectionName
from semcore.data.run_folder import RunFolder
from semcore.evaluation.plan import EvaluationPlan, ValCorpus
from semcore.models.inference import Dtype
from semcore.models.lineage import directions_in_use
from semcore.models.run_checkpoints import GeneratorName, generator_of, has_verifier
from semcore.models.verifier_registry import VERIFIERS, VerifierChoice, VerifierName
from semcore.retrieval.dense import SENTENCE_ENCODER
from semcore.retrieval.generator import Engine
from semcore.retrieval.guides import check_guide
from semcore.retrieval.prior_settings import check_prior_weight
from semcore.runtime.errors import UserError
from semcore.runtime.moved_checkpoints import absolute_place
from semcore.runtime.settings import LineageSettings
from semcore.verification import LETTERS


@dataclass
class EvaluateSettings(VerifierModelSettings, LineageSettings):
    """How a run is measured."""

    help_sections: ClassVar = {
        "num_beams": "search",
        "num_candidates": "verification",
        "num_order_queries": "analysis",
        "limit": "run-time",
    }

    run: Path
    """The run folder; it holds the identifiers and the trained models."""
    data: Path | None = None
    """The dataset folder; by default the one earlier stages of the run worked on."""
    config: Path | None = None
    """A YAML file whose section `evaluate` is read before the flags."""
    check: bool = False
    """Check that everything is there, and measure nothing."""
    split: Literal["train", "val", "test"] = "test"
    """The split whose items are searched with its queries."""
    directions: list[DirectionName] | None = None
    """What is measured, [t2i] say; by default all that the identifier model was trained for."""
    generator: GeneratorName = "auto"  # ours: AVG searches with the ranked one
    """Which model searches: the "identifier" model, the "ranked" one, or the ranked one where it is trained."""
    num_beams: int = 20  # ours: the paper's tables use 50, which cost twice as much
    """Width of the beam, and the maximum number of hits per query."""
    constraint: bool = True  # paper, algorithm 1; false is Table 3's "w/o constrained decoding"
    """Generate existing identifiers only; false searches the whole vocabulary, as `generate` does."""
    prior_weight: Literal["fit"] | float = "fit"  # ours: the paper's score is 0
    """How much of log p(identifier) to take off log p(identifier | query), 0 to 1; "fit" finds it on val, by
    direction. metrics.json keeps the paper's score beside it."""
    num_prior_queries: int = 100  # ours: 10 are too few, 300 no better
    """Training queries per direction that p(identifier) is the mean over, at a pass over all identifiers each; a
    model that has learnt to answer empty prompts needs one pass and no query."""
    prior_seed: int = 0
    """Of the draw of these queries."""
    prior_in_search: bool = False  # ours: with keywords in the order of mention it gains nothing over reordering
    """Take the prior off in the beam search already, a second search, and not only from what the first has found."""
    guide: GuideOptions = field(default_factory=GuideOptions)
    """What guides the search."""
    candidates: CandidateOptions = field(default_factory=CandidateOptions)
    """Where candidates come from."""
    num_candidates: int = 10  # paper, A.1
    """How many of the best hits are verified."""
    verifier: VerifierChoice = "listwise"  # paper, section 3.3
    """The verifier; "blocks" is the listwise verifier trained with --attention blocks. "both" measures listwise, blocks
    where it is trained, and likelihood, "all" every one whose checkpoint is there or named; the best one on val gives
    the final ranking."""
    fusion: Literal["val", "none"] = "val"  # ours; in the paper the verifier decides alone: none
    """Rank candidates by the fused scores of verifier and generator, fitted on val, or by the verifier's alone."""
    shifts: int | list[int] = 1  # ours: training shuffles the candidates already
    """Cyclic shifts of the candidates that the listwise verifier is averaged over, or [2, 5] for two from text to image
    and five from image to text; 1 is fast, with as many as there are candidates the result does not depend on their
    order."""
    num_val_queries: int = 500  # ours: two weights and a calibration of five numbers are fitted
    """Queries per direction, drawn at random from val, on which fusions are fitted."""
    val_corpus: ValCorpus = "filled"  # ours: fitted in a smaller corpus, confidence is too high in the measured one
    """What the queries of val are searched in: its items, with training items where the measured split has more of them
    ("filled"), or its "own"."""
    num_order_queries: int = 20  # ours: 20 forward passes each, seconds in all
    """Queries per direction, drawn at random, to measure the listwise verifier's order bias on; 0 for none."""
    order_bias_untrained: bool = False
    """Measure the order bias of the model that the listwise verifier was trained from too."""
    ablations: bool = True
    """Measure the ablations without verification and without the trie too."""
    num_ablation_queries: int = 200  # ours: a free search is slow, and the effect is large
    """Queries per direction, drawn at random, for the search without the trie and its comparison with the trie."""
    num_no_match_queries: int = 100  # ours: as many are searched and verified anew on val, too
    """Queries per direction and split, drawn at random, whose items are taken out of the corpus, to choose and measure
    the threshold below which a search says "no match"; 0 for none."""
    no_match_refused: float = 0.05  # the usual operating point of detectors, 95 % of what belongs there let through
    """The share of val's queries with an answer, 0 to 1, that a search may refuse as "no match"."""
    num_retention_queries: int = 200  # ours: as the ablations; a second search of these
    """Queries per direction, drawn at random, whose right item is followed down the beams; 0 for none."""
    num_exhaustive_queries: int | None = None
    """Queries per direction, drawn at random, that are searched exhaustively too; by default 50 to 10 where there are
    5,000 identifiers or fewer, the fewer the more there are."""
    cost: bool = False
    """Measure seconds and memory against the width of the beam and the size of the corpus, up to 100,000 items made by
    repetition: some minutes."""
    folds: int | None = None
    """Also search this many folds of the split separately, and give the mean: 5 for MSCOCO's 1k scores."""
    baselines: list[str] | None = None
    """Also measure dense retrieval: sentence-encoder (sentences with captions), CLIP or SigLIP checkpoints."""
    limit: int | None = None
    """Search with this many queries per direction only, drawn at random; all items are searched."""
    engine: Engine = "semcore"
    """Beam-search backend: "semcore", or "transformers" for Hugging Face `generate`."""
    keep_features: bool = True
    """Store every image's visual features in RUN/features; false saves disk space and costs time."""
    batch_size: int = 32  # ours: as many queries as fit a beam each
    """Queries searched at once."""
    dtype: Dtype = "auto"
    """Precision: "auto" is bfloat16 where the device multiplies it natively, else float32."""
    device: str | None = None
    """Where the models run ("cpu", "cuda"); by default the fastest device there is."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "num_beams", "num_candidates", "num_ablation_queries", "num_val_queries")
        require_minimum(1, self, "num_prior_queries")
        check_prior_weight(self.prior_weight, "--prior-weight")
        if self.prior_in_search and (self.engine != "semcore" or not self.constraint):
            raise UserError(
                "--prior-in-search needs the beam search of semcore over identifiers: leave --engine and --constraint "
                "as they are, or leave it out"
            )
        check_guide(self.guide.kind, self.guide.mode, self.engine, self.constraint)
        require_minimum(1, self, "limit", "batch_size")
        require_minimum(0, self, "num_order_queries", "num_no_match_queries", "num_retention_queries")
        require_minimum(0, self, "num_exhaustive_queries")
        if not 0 <= self.no_match_refused < 1:
            raise UserError(f"--no-match-refused is a share from 0 to below 1, found {self.no_match_refused:g}")
        require_minimum(2, self, "folds")
        if self.folds is not None and self.limit is not None:
            raise UserError("--folds are folds of the whole split: leave --limit out")
        if self.num_candidates > len(LETTERS) and any(VERIFIERS[name].ordered for name in self.verifiers):
            raise UserError(
                f"--num-candidates must be {len(LETTERS)} or less, one a letter from A to {LETTERS[-1]}, "
                f"found {self.num_candidates}"
            )
        if self.num_candidates < 2 and self.verifier != "none":
            raise UserError(
                f"--num-candidates must be 2 or more for a verifier to choose between, found {self.num_candidates}; "
                "use --verifier none to rank without one"
            )
        self._check_shifts()

    def _check_shifts(self) -> None:
        if isinstance(self.shifts, list) and len(self.shifts) != len(Direction):
            raise UserError(
                "--shifts takes a number, or two in brackets, one from text to image and one from image to text, "
                f"found {self.shifts}"
            )
        for number in self.shifts_by_direction.values():
            if number < 1:
                raise UserError(f"--shifts must be 1 or more, found {number}")
            if number > self.num_candidates:
                raise UserError(f"--shifts must be --num-candidates or less, found {number}")

    @property
    def shifts_by_direction(self) -> dict[Direction, int]:
        """Return direction -> its shifts."""
        shifts = self.shifts if isinstance(self.shifts, list) else [self.shifts] * len(Direction)
        return dict(zip(Direction, shifts, strict=True))

    @property
    def verifiers(self) -> tuple[VerifierName, ...]:
        """Return the verifiers to measure."""
        if self.verifier == "none":
            return ()
        if self.verifier not in ("both", "all"):
            return (self.verifier,)
        missing = set() if has_verifier(RunFolder(self.run), "blocks") else {"blocks"}
        missing |= {name for name, entry in VERIFIERS.items() if entry.model == "named"} - named_models(self).keys()
        wanted = [name for name, entry in VERIFIERS.items() if self.verifier == "all" or entry.in_both]
        return tuple(name for name in wanted if name not in missing)

    def plan(self) -> EvaluationPlan:
        """Return the settings as an evaluation's plan."""
        return EvaluationPlan(
            split=self.split,
            directions=directions_in_use(self.directions, generator_of(RunFolder(self.run), self.generator)),
            generator=self.generator,
            limit=self.limit,
            folds=self.folds,
            num_beams=self.num_beams,
            constraint=self.constraint,
            engine=self.engine,
            batch_size=self.batch_size,
            prior_weight=self.prior_weight,
            num_prior_queries=self.num_prior_queries,
            prior_seed=self.prior_seed,
            prior_in_search=self.prior_in_search,
            guide=replace(self.guide.settings(), model=_place(self.guide.model)),
            guide_weight=self.guide.weight,
            candidates=replace(self.candidates.settings(), model=_place(self.candidates.model)),
            num_candidates=self.num_candidates,
            verifiers=self.verifiers,
            other_models=self.other_models,
            shifts=self.shifts_by_direction,
            fusion=self.fusion,
            num_val_queries=self.num_val_queries,
            val_corpus=self.val_corpus,
            num_order_queries=self.num_order_queries,
            order_bias_untrained=self.order_bias_untrained,
            ablations=self.ablations,
            num_ablation_queries=self.num_ablation_queries,
            num_no_match_queries=self.num_no_match_queries,
            no_match_refused=self.no_match_refused,
            num_retention_queries=self.num_retention_queries,
            num_exhaustive_queries=self.num_exhaustive_queries,
            cost=self.cost,
            baselines=tuple(self.baselines or ()),
            dtype=self.dtype,
            device=self.device,
            base=self.base,
        )

    @property
    def other_models(self) -> dict[str, str]:
        """Return verifier -> its model, where it is not the run's own; folders as absolute paths."""
        return {name: absolute_place(model) for name, model in named_models(self).items() if name in self.verifiers}


def _place(model: str) -> str:
    return model if model == SENTENCE_ENCODER else absolute_place(model)


def main(settings: EvaluateSettings) -> None:
    """Measure a run, or say that it is done."""
    run = RunFolder(settings.run)
    dataset = load_dataset(settings.data or run.data_folder())
    measure_run(
        settings.plan(), run, dataset, resolved(settings),
        allowed=settings.allowed, check=settings.check, keep_features=settings.keep_features,
    )  # fmt: skip
