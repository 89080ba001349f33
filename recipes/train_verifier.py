r"""Fine-tune a model to choose, among candidates, the one that matches a query (paper, section 3.3).

Run as (full fine-tuning, two processes on a CPU):

    accelerate launch --config_file ds_configs/cpu_zero2.yaml recipes/train_verifier.py \
        --config recipes/configs/scenes.yaml --data DATA --run RUN

or on GPUs, with LoRA:

    accelerate launch --config_file ds_configs/zero1.yaml recipes/train_verifier.py \
        --lora.rank 16 --data DATA --run RUN

The candidates have letters, the answer is the right one's letter. The directions that there are candidates
for are mixed in one model; the order of the candidates is drawn anew for every question. Needs RUN/candidates, from
`python -m data_prep.candidates`. Writes RUN/verifier_model, the checkpoint or the adapter; with
`--attention blocks`, where a candidate is read by itself for all queries, RUN/verifier_model_blocks.

A killed training goes on from its last checkpoint. `--check` trains nothing, `--training.max-steps 5` stops early.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from semcore.commands.arguments import announcer, resolved, run_command
from semcore.data.dataset import load_dataset
from semcore.data.directions import DirectionName, named_directions
from semcore.data.run_folder import RunFolder
from semcore.models.lineage import as_record, made_from
from semcore.models.next_steps import after_verifier
from semcore.models.run_checkpoints import VERIFIER_FOLDERS, verifier_start_of
from semcore.models.run_lineage import check_verifier_start, prompts_of
from semcore.report import write_model_cards
from semcore.runtime.errors import UserError
from semcore.runtime.settings import LineageSettings
from semcore.training.fine_tune import fine_tune, load_start, make_trainable, stage_inputs
from semcore.training.images import load_training_images
from semcore.training.mining import VAL
from semcore.training.option_checks import check_mode
from semcore.training.settings import LoraSettings, VerifierTrainingSettings
from semcore.training.verifier_lesson import make_verifier_lesson, read_mined_sets
from semcore.verification.block_layout import ATTENTION, Attention, attention_record, training_section

say = announcer("train_verifier")
STAGES = {"full": "train_verifier", "blocks": "train_verifier_blocks"}


@dataclass
class ModelSettings:
    """Where the model comes from, and which of its parts stay as they are."""

    start: Literal["base", "identifier"] = "base"
    """Start from the checkpoint that the identifier model started from, or from the identifier model."""
    base: str | None = None
    """A checkpoint to start from instead: a folder or a hub id of a native InternVL."""
    freeze_vision: bool = True  # InternVL
    """Leave the vision tower as it is."""
    freeze_projector: bool = True  # ours: InternVL trains it; frozen, a fifth as much is kept of an image
    """Leave the projector between vision tower and text model as it is."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint."""


@dataclass
class Settings(LineageSettings):
    run: Path
    """The run folder; it holds the candidates."""
    data: Path | None = None
    """The dataset folder; by default the one earlier stages of the run worked on."""
    config: Path | None = None
    """A YAML file whose section `train_verifier` is read before the flags."""
    check: bool = False
    """Read and check everything, train nothing."""
    directions: list[DirectionName] | None = None
    """What is verified later, [t2i] say; by default all that there are candidates for."""
    attention: Attention = "full"  # paper, section 3.3; "blocks" is ours: a candidate is read once for all queries
    """What a candidate sees: all that stands before it ("full"), or itself only ("blocks")."""
    extra_questions: int = 4  # ours: reading the candidates is what costs
    """Further questions about the same candidates in a row, at most."""
    patience: int = 3  # ours
    """Stop after so many evaluations on val without a lower loss; there is one every training.save_steps steps."""
    keep_features: bool = True
    """Keep what a frozen vision tower makes of every image in RUN/features; false spares the disk and costs time."""
    model: ModelSettings = field(default_factory=ModelSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    training: VerifierTrainingSettings = field(default_factory=VerifierTrainingSettings)

    def __post_init__(self) -> None:
        if self.extra_questions < 0:
            raise UserError(f"--extra-questions must be 0 or more, found {self.extra_questions}")
        if self.patience < 1:
            raise UserError(f"--patience must be 1 or more, found {self.patience}")


def main(settings: Settings) -> None:
    model, lora, training = settings.model, settings.lora, settings.training
    check_mode(lora.rank, lora.quantization, model.freeze_vision and model.freeze_projector, **asdict(training))
    run = RunFolder(settings.run)
    dataset = load_dataset(settings.data or run.data_folder())
    asked = named_directions(settings.directions) if settings.directions is not None else None
    mined = read_mined_sets(run, dataset, asked)
    base = model.base or verifier_start_of(run, model.start, settings.base)
    mismatches = check_verifier_start(run, dataset, base, bool(model.base), settings.base, settings.allowed)
    name, folder = STAGES[settings.attention], run / VERIFIER_FOLDERS[settings.attention]
    with run.lock():
        files = [path.relative_to(run.path).as_posix() for path in sorted((run / "candidates").rglob("*.jsonl"))]
        used = prompts_of(["listwise"], mined.directions)
        inputs = stage_inputs(run, dataset, base, files, used)
        places = {"model.base": inputs["the checkpoint"]} if model.base else {}
        stage = None if settings.check else run.open_stage(name, resolved(settings), inputs, dataset.folder, places)
        if stage and stage.finished:
            write_model_cards(run, dataset.name, edited=False)  # a kill may have come before it
            return say(f"already trained, see {folder}")
        say(f"the model, from {base}")
        loading = {**training.loading(), "moved": settings.base}
        checkpoint = load_start(base, lora.rank, lora.quantization, model.trust_remote_code, **loading)
        visuals = load_training_images(
            checkpoint, dataset, run / "features" if settings.keep_features and not settings.check else None, say,
            freeze_vision=model.freeze_vision, freeze_projector=model.freeze_projector, bf16=training.bf16,
            splits=("train", VAL) if mined.val else ("train",),
        )  # fmt: skip
        lesson = make_verifier_lesson(
            checkpoint, dataset, mined, visuals,
            attention=settings.attention, extra_questions=settings.extra_questions, patience=settings.patience,
            marked=training.attention_loss > 0, **training.schedule(),
        )  # fmt: skip
        say(lesson.words)
        if stage is None:
            return say("everything is in order")
        run.set_config(name, resolved(settings))
        run.set_prompts(used)
        trained = make_trainable(
            checkpoint.model, model.freeze_vision, model.freeze_projector,
            new_token_ids=(), seed=training.seed, **lora.adapter(),
        )  # fmt: skip
        measured = fine_tune(
            checkpoint, trained, lesson.rows, visuals, folder, prompts=used, description=name,
            records={ATTENTION: attention_record(settings.attention)},
            lineage=made_from(run, dataset, mismatches, mined.directions), validation=lesson.validation,
            **training.optimization(),
        )  # fmt: skip
        stage.finish(**measured, num_unreadable_images=len(visuals.unreadable), **as_record(mismatches))
        write_model_cards(run, dataset.name)
    return say(f"next: {after_verifier(run, dataset.folder, settings.config, settings.attention)}")


if __name__ == "__main__":
    run_command(main, Settings, section=training_section())
