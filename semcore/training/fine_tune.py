"""Fine-tuning of a checkpoint on packed rows, shared by both recipes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from semcore.data.dataset import Dataset
from semcore.data.run_folder import RunFolder
from semcore.models.adapters import is_adapter, read_note
from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.extra_modules import train_extras
from semcore.models.lineage import PROMPTS
from semcore.models.lora import apply_lora
from semcore.models.quantization import Quantization
from semcore.models.tokenization import IMAGE_START
from semcore.runtime.atomic import restore_folder
from semcore.runtime.errors import UserError
from semcore.runtime.files import sha256_of
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.peft_models import is_peft_model
from semcore.runtime.ranks import is_main_process, num_processes
from semcore.training.arguments import training_arguments
from semcore.training.attention_loss import supervised_attention
from semcore.training.chunked_loss import ELEMENTS_PER_CHUNK, PLAIN, chunked_loss
from semcore.training.collator import Collator
from semcore.training.image_inputs import Visuals, use_precomputed_vision_states
from semcore.training.launcher import (
    choose_attention,
    computes_bf16,
    own_device,
    quiet_libraries,
    recompute_activations,
)
from semcore.training.objective import Objective
from semcore.training.rdrop import dropout as dropping_out
from semcore.training.saving import CHECKPOINTS, save_model, whole_state
from semcore.training.schedule import PlannedRows, divide_batch
from semcore.training.trainer import Validation, run_training
from semcore.training.weight_movement import freeze, trainable_weights, unexpected_moves, weight_hashes

logger = logging.getLogger(__name__)


def stage_inputs(
    run: RunFolder, dataset: Dataset, base: str, files: Sequence[str], prompts: Mapping[str, str]
) -> dict[str, str]:
    """Return the inputs of a training, name -> hash, so that a change is noticed.

    Args:
        run: the run folder.
        dataset: the dataset of the training.
        base: the checkpoint to start from.
        files: files of the run folder.
        prompts: file name -> sha256 of the prompts in use.
    """
    return {
        "metadata.jsonl": dataset.fingerprint,
        "the checkpoint": fingerprint(base),
        **{name: sha256_of(run / name) for name in files},
        **prompts,
    }


def load_start(
    base: str,
    lora_rank: int,
    quantization: Quantization,
    trust_remote_code: bool,
    *,
    bf16: str,
    dtype: str,
    device_map: str | None,
    moved: Path | None = None,
) -> Checkpoint:
    """Load the checkpoint a training starts from.

    With LoRA the frozen base is kept in bfloat16 if the training computes in bfloat16.

    Args:
        base: a folder or a hub id.
        lora_rank: 0 where the whole text model will be trained.
        quantization: "nf4" quantises an adapter's base to four bits.
        trust_remote_code: run Python code that comes with the checkpoint.
        bf16: "yes", "no" or "auto".
        dtype: precision of the weights; "auto" is float32, and with an adapter that of the computation.
        device_map: the library's distribution of layers over devices; None for one device.
        moved: the present path of an adapter's base, if it has moved.

    Raises:
        UserError: it cannot be loaded, or is an adapter on a base with another quantisation.
    """
    quiet_libraries()
    place = Path(base)
    noted = read_note(place).quantization
    if is_adapter(place) and noted != quantization:
        raise UserError(f"the adapter {base} was trained with --lora.quantization {noted}; give the same to go on")
    if dtype == "auto":
        dtype = "bfloat16" if lora_rank > 0 and computes_bf16(bf16) else "float32"
    return load_checkpoint(
        str(place.resolve()) if place.is_dir() else base,  # an adapter records this path
        dtype=dtype,
        device=own_device() if quantization != "none" else "cpu",  # quantised weights cannot be moved
        trust_remote_code=trust_remote_code,
        quantization=quantization,
        device_map=device_map,
        base=moved,
    )


def make_trainable(
    model: Any,
    freeze_vision: bool,
    freeze_projector: bool,
    *,
    rank: int,
    alpha: int | None,
    dropout: float,
    target_modules: Sequence[str],
    new_token_ids: Sequence[int],
    seed: int = 0,
    extras: Collection[str] = (),
) -> Any:
    """Freeze the weights that are not trained, add LoRA if requested, and return the model to train.

    A model that already has an adapter continues to train that adapter. Extra modules train whole, under LoRA too.

    Args:
        model: a checkpoint's model.
        freeze_vision: freeze the vision tower.
        freeze_projector: freeze the projector.
        rank: LoRA's rank; 0 for none.
        alpha: LoRA's alpha; twice the rank by default.
        dropout: LoRA's dropout.
        target_modules: linear layers that get LoRA.
        new_token_ids: rows of the embeddings that are trained with LoRA.
        seed: seed of LoRA's A matrices.
        extras: names of the extra modules that are trained; the others are frozen.
    """
    if is_peft_model(model):
        model.set_requires_grad("default", requires_grad=True)
        train_extras(model, extras)
        model.enable_input_require_grads()
        return model
    freeze(model, vision=freeze_vision, projector=freeze_projector)
    train_extras(model, extras)
    if rank == 0:
        return model
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = apply_lora(
            model, rank=rank, alpha=alpha or 2 * rank, dropout=dropout, target_modules=target_modules,
            new_token_ids=new_token_ids,
        )  # fmt: skip
    train_extras(model, extras)
    model.enable_input_require_grads()  # otherwise gradient checkpointing stops gradients at frozen embeddings
    return model


def fine_tune(
    checkpoint: Checkpoint,
    model: Any,
    rows: PlannedRows,
    visuals: Visuals,
    folder: Path,
    *,
    prompts: dict[str, str],
    description: str,
    batch_size: int,
    micro_batch_size: int,
    gradient_checkpointing: bool,
    attn_implementation: str = "auto",
    attention_loss: float = 0.0,
    objective: Objective = PLAIN,
    dropout: float = 0.0,
    keep_processes: bool = False,
    records: Mapping[str, Mapping[str, Any]] | None = None,
    lineage: Mapping[str, Any] | None = None,
    validation: Validation | None = None,
    **training: Any,
) -> dict[str, Any]:
    """Train and save; return the manifest's entries, with "warnings" where weights moved unexpectedly.

    Args:
        checkpoint: the checkpoint of the model.
        model: from `make_trainable`.
        rows: planned in steps of `batch_size`.
        visuals: the source of the images.
        folder: RUN/identifier_model or RUN/verifier_model.
        prompts: prompt file -> sha256, saved with the model.
        description: in front of the progress bar.
        batch_size: rows per step, over all processes.
        micro_batch_size: the most rows that go through a device at once.
        gradient_checkpointing: recompute activations to save memory.
        attn_implementation: as transformers names it, or "auto".
        attention_loss: weight of the loss on attention, for rows that say which tokens show which candidate.
        objective: what is minimised.
        dropout: rate in every text layer.
        keep_processes: leave the processes connected, for another training.
        records: other JSON files saved with the model, name -> content.
        lineage: inputs of the training, from `semcore.models.lineage.made_from`.
        validation: rows of val that the training is stopped by.
        training: the other arguments of `training_arguments`.
    """
    micro_batch_size, accumulation_steps = divide_batch(batch_size, num_processes(), micro_batch_size)
    trainable = trainable_weights(model)
    before = weight_hashes(dict(model.named_parameters())) if is_main_process() else {}
    num_steps = len(rows) // batch_size
    restore_folder(folder)
    arguments = training_arguments(
        folder / CHECKPOINTS,
        num_steps=num_steps,
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=accumulation_steps,
        evaluates=validation is not None,
        **training,
    )
    choose_attention(checkpoint.model, attn_implementation)
    if gradient_checkpointing:
        recompute_activations(model)
    collator = Collator(
        visuals, checkpoint.filler_token_id, checkpoint.model.config.image_token_id, objective.num_copies,
        reads_units=objective.set_weight > 0,
    )  # fmt: skip
    with (
        use_precomputed_vision_states(model, visuals),
        dropping_out(model, dropout),
        chunked_loss(model, ELEMENTS_PER_CHUNK, objective),
        supervised_attention(model, attention_loss),
    ):
        done = run_training(
            model, arguments, rows, collator,
            description=description, progress=is_main_process(), validation=validation,
        )  # fmt: skip
    state = whole_state(done.trainer)
    warnings: list[str] = []
    if is_main_process():
        save_model(done.trainer, checkpoint, folder, state, {PROMPTS: prompts, **(records or {})}, lineage or {})
        after = weight_hashes({name: state[name] for name in before if name in state})
        warnings = unexpected_moves(before, after, trainable, num_steps)
        for sentence in warnings:
            logger.warning("%s; the model is saved in %s", sentence, folder)
    done.trainer.accelerator.wait_for_everyone()
    if not keep_processes:
        done.trainer.accelerator.end_training()  # otherwise the processes' threads may abort the interpreter's exit
    return {**done.measured(), **({"warnings": warnings} if warnings else {})}


def image_start_id(checkpoint: Checkpoint) -> int:
    """Return the id of the token before each image's tokens."""
    return checkpoint.tokenizer.convert_tokens_to_ids(IMAGE_START)
