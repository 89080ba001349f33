r"""Fine-tune a model to write the identifier of what matches a query (paper, section 3.4, equation 3).

Run as (full fine-tuning, two processes on a CPU):

    accelerate launch --config_file ds_configs/cpu_zero2.yaml recipes/train_identifier.py \
        --config recipes/configs/scenes.yaml --data DATA --run RUN

or on GPUs, with LoRA:

    accelerate launch --config_file ds_configs/zero1.yaml recipes/train_identifier.py \
        --model.base OpenGVLab/InternVL3-1B-hf --lora.rank 16 --data DATA --run RUN

Both directions are mixed in one model: each training sentence asks for the identifier of its image,
each training image for the identifier of each of its sentences. `--directions [t2i]` trains one of them,
without any image, and later stages follow. The loss counts the identifier's tokens and the end token only;
`--losses` and `--queries` add what AVG, ComGTIR, CART and GRACE train with.
Needs RUN/identifiers, from `python -m data_prep.identifiers`. Writes

    RUN/identifier_model            the checkpoint, or the adapter
    RUN/candidates/held_out.json    queries that were not trained on, to mine candidates with

A killed training goes on from its last checkpoint. `--check` trains nothing, `--training.max-steps 5` stops early.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from semcore.commands.arguments import announcer, resolved, run_command
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction, DirectionName, named_directions
from semcore.data.identifier_files import read_identifiers
from semcore.data.identifier_tokens import read_tokens
from semcore.data.run_folder import RunFolder
from semcore.models.identifier_tokens import add_identifier_tokens
from semcore.models.lineage import Surroundings, as_record, check_lineage, made_from
from semcore.models.next_steps import after_identifier_model
from semcore.models.null_queries import NULL_QUERIES, null_queries_record
from semcore.models.run_checkpoints import generator_start_of
from semcore.report import write_model_cards
from semcore.runtime.errors import UserError
from semcore.runtime.ranks import is_main_process
from semcore.runtime.settings import LineageSettings
from semcore.training.fine_tune import fine_tune, image_start_id, load_start, make_trainable, stage_inputs
from semcore.training.further_queries import check_queries, prompts_of_queries, training_files
from semcore.training.held_out import choose_held_out, write_held_out
from semcore.training.identifier_lesson import add_extras, make_lesson
from semcore.training.images import load_training_images
from semcore.training.objective_settings import LossSettings, QuerySettings
from semcore.training.option_checks import check_directions, check_losses, check_mode
from semcore.training.settings import HeldOutSettings, IdentifierTrainingSettings, LoraSettings, ModelSettings

STAGE = "train_identifier"
say = announcer(STAGE)


@dataclass
class Settings(LineageSettings):
    run: Path
    """The run folder; it holds the identifiers."""
    data: Path | None = None
    """The dataset folder; by default the one earlier stages of the run worked on."""
    config: Path | None = None
    """A YAML file whose section `train_identifier` is read before the flags."""
    check: bool = False
    """Read and check everything, train nothing."""
    directions: list[DirectionName] = field(default_factory=lambda: ["t2i", "i2t"])  # paper, section 3.4
    """What is searched later: images with sentences (t2i), sentences with images (i2t)."""
    row_tokens: int = 512  # ours: an image of 256 tokens with the identifiers of its five sentences
    """Tokens of a row, at most; examples that begin alike share a row, and what they share is read once."""
    keep_features: bool = True
    """Keep what a frozen vision tower makes of every image in RUN/features; false spares the disk and costs time."""
    model: ModelSettings = field(default_factory=ModelSettings)
    queries: QuerySettings = field(default_factory=QuerySettings)
    losses: LossSettings = field(default_factory=LossSettings)
    held_out: HeldOutSettings = field(default_factory=HeldOutSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    training: IdentifierTrainingSettings = field(default_factory=IdentifierTrainingSettings)

    def __post_init__(self) -> None:
        self.directions = [direction.value for direction in named_directions(self.directions)]
        if self.row_tokens < 1:
            raise UserError(f"--row-tokens must be 1 or more, found {self.row_tokens}")


def main(settings: Settings) -> None:
    model, lora, training, losses = settings.model, settings.lora, settings.training, settings.losses
    text_only, directions = model.freeze_vision and model.freeze_projector, named_directions(settings.directions)
    captions, own = settings.queries.captions, settings.queries.images
    check_mode(lora.rank, lora.quantization, text_only, **asdict(training))
    check_directions(directions, text_only or own != "none")
    check_queries(captions, own, directions)
    check_losses(losses.rdrop, losses.dropout, losses.fusion, lora.rank and lora.dropout, asdict(training))
    run = RunFolder(settings.run)
    dataset = load_dataset(settings.data or run.data_folder())
    model.base = model.base or generator_start_of(run, settings.base)
    tokens, split = read_tokens(run / "identifiers"), None if settings.queries.everything else "train"
    identifiers = {direction: read_identifiers(run / "identifiers", direction, split) for direction in directions}
    used = prompts_of_queries(directions, own)
    here = Surroundings(used, run, base=settings.base)
    mismatches = check_lineage(model.base, here, settings.allowed, must_say=False)
    with run.lock():
        inputs = stage_inputs(run, dataset, model.base, training_files(run, directions, captions), used)
        places = {"model.base": inputs["the checkpoint"]}
        stage = None if settings.check else run.open_stage(STAGE, resolved(settings), inputs, dataset.folder, places)
        if stage and stage.finished:
            write_model_cards(run, dataset.name, edited=False)  # a kill may have come before it
            return say(f"already trained, see {run / 'identifier_model'}")
        say("the model, with the new tokens of the identifiers")
        checkpoint = load_start(
            model.base, lora.rank, lora.quantization, model.trust_remote_code, **training.loading(), moved=settings.base
        )
        new_tokens = add_identifier_tokens(checkpoint, tokens)
        extras = add_extras(checkpoint, identifiers, seed=training.seed, **losses.modules())
        visuals = load_training_images(
            checkpoint, dataset, run / "features" if settings.keep_features and not settings.check else None, say,
            freeze_vision=model.freeze_vision, freeze_projector=model.freeze_projector, bf16=training.bf16,
            needed=Direction.I2T in directions or own != "none",
            splits=("train", "val", "test") if own == "all" else ("train",),
        )  # fmt: skip
        held_out = choose_held_out(dataset.split("train"), **asdict(settings.held_out))
        lesson = make_lesson(
            checkpoint, run, dataset, identifiers, held_out, visuals,
            captions=captions, images=own, null_queries=training.null_queries, seed=training.seed,
        )  # fmt: skip
        rows = lesson.plan(image_start_id(checkpoint), settings.row_tokens, **training.schedule())
        say(f"{lesson.words}, {len(rows) // training.batch_size} steps")
        if stage is None:
            return say("everything is in order")
        run.set_config(STAGE, resolved(settings))
        run.set_prompts(used)
        trained = make_trainable(
            checkpoint.model, model.freeze_vision, model.freeze_projector,
            new_token_ids=new_tokens, seed=training.seed, extras=extras, **lora.adapter(),
        )  # fmt: skip
        measured = fine_tune(
            checkpoint, trained, rows, visuals, run / "identifier_model",
            prompts=used, description=STAGE, lineage=made_from(run, dataset, mismatches, directions),
            objective=losses.objective(), dropout=losses.dropout,
            records={NULL_QUERIES: null_queries_record(training.null_queries)}, **training.optimization(),
        )  # fmt: skip
        if is_main_process():
            write_held_out(run, held_out, directions)
        stage.finish(**measured, num_unreadable_images=len(visuals.unreadable), **as_record(mismatches))
        write_model_cards(run, dataset.name)
    return say(f"next: {after_identifier_model(run, dataset.folder, settings.config)}")


if __name__ == "__main__":
    run_command(main, Settings, section=STAGE)
