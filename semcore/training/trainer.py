"""Training runs on `transformers.Trainer`: progress, resumable checkpoints, measurements."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from semcore.models.extra_modules import extras_of, put_weights, read_weights, write_extras
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json
from semcore.runtime.hardware import peak_memory_bytes
from semcore.runtime.ranks import is_main_process
from semcore.training.launcher import engine_facts

COMPLETE = "complete.json"


@dataclass(frozen=True)
class Validation:
    """Rows of val that a training is stopped by, and how many evaluations without a lower loss it waits for."""

    rows: Dataset[Any]
    patience: int


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        trainer: with the model.
        losses: of every step, those before an interruption included.
        peak_memory_bytes: of the process that held most.
        val_losses: step -> mean loss of a label on val, where there are rows of val.
    """

    trainer: Trainer
    losses: list[float]
    peak_memory_bytes: int
    val_losses: dict[int, float] = field(default_factory=dict)

    def measured(self) -> dict[str, Any]:
        """Return the manifest's entries: the losses are means over the first and last quarter of the steps."""
        quarter = max(1, len(self.losses) // 4)
        return {
            "steps": len(self.losses),
            "loss_first": round(fmean(self.losses[:quarter]), 4),
            "loss_last": round(fmean(self.losses[-quarter:]), 4),
            "peak_memory_bytes": self.peak_memory_bytes,
            **self._validation(),
            **engine_facts(),
        }

    def _validation(self) -> dict[str, Any]:
        if not self.val_losses:
            return {}
        best = min(self.val_losses, key=lambda step: self.val_losses[step])
        return {"val_losses": {str(step): round(loss, 4) for step, loss in self.val_losses.items()}, "best_step": best}


def run_training(
    model: Any,
    arguments: TrainingArguments,
    rows: Dataset[Any],
    collator: Callable[[Sequence[Any]], dict[str, Any]],
    *,
    description: str,
    progress: bool,
    validation: Validation | None = None,
) -> Training:
    """Train, from the last complete checkpoint in the arguments' folder if there is one.

    Args:
        model: the model, trained in place.
        arguments: from `semcore.training.arguments.training_arguments`.
        rows: the rows in their order.
        collator: makes a batch of rows.
        description: in front of the progress bar.
        progress: show it.
        validation: what the training is stopped by; the model ends with the weights that were best on it.

    Raises:
        UserError: the checkpoints belong to another number of processes or another engine.
    """
    folder = Path(str(arguments.output_dir))
    last = last_checkpoint(folder)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=validation.rows if validation else None,
        data_collator=collator,
        callbacks=[_Progress(description, progress)],
    )
    by_name = isinstance(model, PreTrainedModel) and not trainer.is_deepspeed_enabled
    if last is not None and by_name:
        load_weights(model, last)
    if last is not None and not trainer.is_deepspeed_enabled:
        put_weights(model, read_weights(last))
    if validation:
        trainer.add_callback(_EvaluateLastStep())
        trainer.add_callback(EarlyStoppingCallback(validation.patience))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_MarkComplete(trainer))
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    best = trainer.state.best_model_checkpoint
    if validation and best and by_name:
        load_weights(model, Path(best))
    if validation and best and not trainer.is_deepspeed_enabled:
        put_weights(model, read_weights(Path(best)))
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    val_losses = {int(entry["step"]): entry["eval_loss"] for entry in history if "eval_loss" in entry}
    peak = trainer.accelerator.gather(torch.tensor([peak_memory_bytes()], device=arguments.device))
    return Training(trainer, losses, int(peak.max()), val_losses)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint, and remove incomplete ones.

    Raises:
        UserError: it was written by another number of processes or another engine.
    """
    steps = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in steps if (path / COMPLETE).exists()]
    if is_main_process():
        for path in set(steps) - set(whole):
            shutil.rmtree(path)
    if not whole:
        return None
    before, now = json.loads((whole[-1] / COMPLETE).read_text(encoding="utf-8")), engine_facts()
    if before != now:
        raise UserError(
            f"the interrupted training in {folder} ran with {_in_words(before)}, not {_in_words(now)}; "
            f"launch it as before, or delete {folder} to begin anew"
        )
    return whole[-1]


def load_weights(model: PreTrainedModel, checkpoint: Path) -> None:
    """Load the weights of a checkpoint that the trainer wrote.

    The trainer itself looks for the names of this model's parameters and finds those of InternVL's
    hub format, in which `save_pretrained` wrote them: it would silently continue with the weights of
    step 0 (transformers 5.23).
    """
    saved = type(model).from_pretrained(checkpoint, dtype=model.dtype)
    missing, _ = model.load_state_dict(saved.state_dict(), strict=False)
    if lost := [name for name in missing if not name.startswith(tuple(extras_of(model)))]:
        raise UserError(f"{checkpoint} lacks {len(lost)} weights, {lost[0]} the first; delete it to begin anew")


def _in_words(facts: dict[str, Any]) -> str:
    stage = f" ZeRO-{facts['zero_stage']}" if "zero_stage" in facts else ""
    return f"engine {facts['engine']}{stage} and {facts['num_processes']} process(es)"


class _MarkComplete(TrainerCallback):
    """Callback that marks a checkpoint once every process has written its files."""

    def __init__(self, trainer: Trainer):
        self._trainer = trainer

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and not self._trainer.is_deepspeed_enabled:  # its engine saves them itself
            write_extras(folder, self._trainer.accelerator.unwrap_model(self._trainer.model))
        self._trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            write_json(folder / COMPLETE, engine_facts())


class _EvaluateLastStep(TrainerCallback):
    """Evaluate and save at the last step, too, whatever it is a multiple of."""

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True


class _Progress(TrainerCallback):
    """Callback that shows the steps and the last loss."""

    def __init__(self, description: str, progress: bool):
        self._description, self._progress = description, progress
        self._bar: tqdm[Any] | None = None

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc=self._description, unit="step",
            disable=not self._progress,
        )  # fmt: skip

    def on_log(self, args: TrainingArguments, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self._bar is not None and logs and "loss" in logs:
            self._bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
            self._bar.update(state.global_step - self._bar.n)

    def on_train_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if self._bar is not None:
            self._bar.close()
