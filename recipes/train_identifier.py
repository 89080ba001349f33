r"""Fine-tune a model to write the identifier of what matches a query (paper, section 3.4, equation 3).

Run as (full fine-tuning, two processes on a CPU):

    accelerate launch --config_file ds_configs/cpu_zero2.yaml recipes/train_identifier.py \
        --config recipes/configs/scenes.yaml --data DATA --run RUN

or on GPUs, with LoRA:

    accelerate launch --config_file ds_configs/zero1.yaml recipes/train_identifier.py \
        --model.base OpenGVLab/InternVL3-1B-hf --lora.rank 16 --data DATA --run RUN

Both directions are mixed in one model: each training sentence asks for the identifier of its image,
each training image for the identifier of each of its sentences. `--directions [t2i]` trains one of them,
without any image, and later stages follow. The loss counts the identifier's tokens and the end token only.
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
from semcore.data.identifier_tokens import read_tokens, tokens_file
from semcore.data.run_folder import RunFolder
from semcore.models.identifier_tokens import add_identifier_tokens
from semcore.models.lineage import Surroundings, as_record, check_lineage, made_from
from semcore.models.next_steps import after_identifier_model
from semcore.models.null_queries import NULL_QUERIES, null_queries_record
from semcore.models.prompts import load_prompts
from semcore.models.run_checkpoints import generator_start_of
from semcore.models.run_lineage import prompts_of
from semcore.report import write_model_cards
from semcore.runtime.errors import UserError
from semcore.runtime.ranks import is_main_process
from semcore.runtime.settings import LineageSettings
from semcore.training.fine_tune import fine_tune, image_start_id, load_start, make_trainable, stage_inputs
from semcore.training.held_out import choose_held_out, write_held_out
from semcore.training.identifier_pairs import identifier_examples
from semcore.training.images import load_training_images
from semcore.training.null_queries import null_examples
from semcore.training.option_checks import check_directions, check_mode
from semcore.training.schedule import plan_identifier_rows
from semcore.training.settings import HeldOutSettings, IdentifierTrainingSettings, LoraSettings

STAGE = "train_identifier"
say = announcer(STAGE)


@dataclass
class ModelSettings:
    """Where the model comes from, and which of its parts stay as they are."""

    base: str | None = None  # ours: one model begins both
    """The checkpoint to start from: a folder or a hub id of a native InternVL; by default the one that captioned."""
    freeze_vision: bool = True  # InternVL
    """Leave the vision tower as it is."""
    freeze_projector: bool = True  # ours: InternVL trains it; frozen, a fifth as much is kept of an image
    """Leave the projector between vision tower and text model as it is."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint."""


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
    held_out: HeldOutSettings = field(default_factory=HeldOutSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    training: IdentifierTrainingSettings = field(default_factory=IdentifierTrainingSettings)

    def __post_init__(self) -> None:
        self.directions = [direction.value for direction in named_directions(self.directions)]
        if self.row_tokens < 1:
            raise UserError(f"--row-tokens must be 1 or more, found {self.row_tokens}")


def main(settings: Settings) -> None:
    model, lora, training = settings.model, settings.lora, settings.training
    text_only, directions = model.freeze_vision and model.freeze_projector, named_directions(settings.directions)
    check_mode(lora.rank, lora.quantization, text_only, **asdict(training))
    check_directions(directions, text_only)
    run = RunFolder(settings.run)
    dataset = load_dataset(settings.data or run.data_folder())
    model.base = model.base or generator_start_of(run, settings.base)
    images = dataset.split("train")
    tokens = read_tokens(run / "identifiers")
    identifiers = {direction: read_identifiers(run / "identifiers", direction, "train") for direction in directions}
    used = prompts_of(["generator"], directions)
    here = Surroundings(used, run, base=settings.base)
    mismatches = check_lineage(model.base, here, settings.allowed, must_say=False)
    with run.lock():
        files = [*(f"{own}.jsonl" for own in directions), tokens_file(run / "identifiers")]
        inputs = stage_inputs(run, dataset, model.base, [f"identifiers/{name}" for name in files], used)
        places = {"model.base": inputs["the checkpoint"]}
        stage = None if settings.check else run.open_stage(STAGE, resolved(settings), inputs, dataset.folder, places)
        if stage and stage.finished:
            return say(f"already trained, see {run / 'identifier_model'}")

        say("the model, with the new tokens of the identifiers")
        loading = {**training.loading(), "moved": settings.base}
        checkpoint = load_start(model.base, lora.rank, lora.quantization, model.trust_remote_code, **loading)
        new_tokens = add_identifier_tokens(checkpoint, tokens)
        prompts = load_prompts(special_tokens=checkpoint.special_tokens)

        visuals = load_training_images(
            checkpoint, dataset, run / "features" if settings.keep_features and not settings.check else None, say,
            freeze_vision=model.freeze_vision, freeze_projector=model.freeze_projector, bf16=training.bf16,
            needed=Direction.I2T in directions,
        )  # fmt: skip

        held_out = choose_held_out(images, **asdict(settings.held_out))
        t2i, i2t = identifier_examples(checkpoint.tokenizer, prompts, images, identifiers, held_out, visuals)
        null = null_examples(checkpoint.tokenizer, prompts, t2i, i2t, training.null_queries, training.seed)
        rows = plan_identifier_rows(
            t2i + null, i2t,
            image_start_id=image_start_id(checkpoint), max_tokens=settings.row_tokens, **training.schedule(),
        )  # fmt: skip
        say(f"{len(t2i)} pairs t2i, {sum(map(len, i2t))} pairs i2t, {len(rows) // training.batch_size} steps")
        if stage is None:
            return say("everything is in order")

        run.set_config(STAGE, resolved(settings))
        run.set_prompts(used)
        trained = make_trainable(
            checkpoint.model, model.freeze_vision, model.freeze_projector,
            new_token_ids=new_tokens, seed=training.seed, **lora.adapter(),
        )  # fmt: skip
        measured = fine_tune(
            checkpoint, trained, rows, visuals, run / "identifier_model",
            prompts=used, description=STAGE, lineage=made_from(run, dataset, mismatches, directions),
            records={NULL_QUERIES: null_queries_record(training.null_queries)}, **training.optimization(),
        )  # fmt: skip
        if is_main_process():
            write_held_out(run, held_out, directions)
        stage.finish(**measured, num_unreadable_images=len(visuals.unreadable), **as_record(mismatches))
        write_model_cards(run, dataset.name)
    return say(f"next: {after_identifier_model(run, dataset.folder, settings.config)}")


if __name__ == "__main__":
    run_command(main, Settings, section=STAGE)
