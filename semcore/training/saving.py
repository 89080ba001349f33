"""Saving of a trained model as a checkpoint folder, atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from semcore.models.adapters import BaseNote, base_of, is_adapter, write_note
from semcore.models.checkpoint import Checkpoint
from semcore.models.extra_modules import split_state, without_extras, write_extras
from semcore.models.lineage import write_lineage
from semcore.runtime.atomic import replaced_folder
from semcore.runtime.files import write_json
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.moved_checkpoints import from_folder

CHECKPOINTS = "checkpoints"


def whole_state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Return name -> weight (of any shape) of the trained model, gathered from all processes; call it in all of them.

    Processes other than the main one may get an empty dict.
    """
    model = trainer.model_wrapped
    state = trainer.accelerator.get_state_dict(model)
    return state or {}


def save_model(
    trainer: Trainer,
    checkpoint: Checkpoint,
    folder: Path,
    state: dict[str, torch.Tensor],
    records: Mapping[str, Mapping[str, str]],
    lineage: Mapping[str, Any],
) -> None:
    """Write model (or adapter), tokenizer, image processor, extra modules and records into the folder, replacing it.

    For an adapter the base it was trained on is recorded.

    Args:
        trainer: the trainer with the model.
        checkpoint: gives tokenizer and image processor.
        folder: the checkpoint folder; its former content, the trainer's checkpoints too, is removed.
        state: name -> weight (of any shape), from `whole_state`.
        records: name of a JSON file -> its content.
        lineage: inputs of the training; the hashes of the saved files are added.
    """
    with replaced_folder(folder) as new:
        model = trainer.accelerator.unwrap_model(trainer.model)
        extras, own = split_state(state)
        with without_extras(model):
            model.save_pretrained(new, state_dict=own)
        write_extras(new, model, extras)
        checkpoint.tokenizer.save_pretrained(new)
        checkpoint.image_processor.save_pretrained(new)
        for name, record in records.items():
            write_json(new / name, record)
        write_lineage(new, lineage)
        if is_adapter(new):
            packing, dtype = checkpoint.quantization, str(checkpoint.model.config.dtype).removeprefix("torch.")
            base = base_of(new)
            write_note(new, BaseNote(fingerprint(base), packing, dtype, from_folder(base, folder)))
