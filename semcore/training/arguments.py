"""`TrainingArguments` that fit the launcher's engine."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from semcore.runtime.ranks import num_processes
from semcore.training.launcher import computes_bf16, find_deepspeed_config, free_extensions


def training_arguments(
    folder: Path,
    *,
    num_steps: int,
    micro_batch_size: int,
    gradient_accumulation_steps: int,
    learning_rate: float,
    weight_decay: float,
    warmup_ratio: float,
    max_grad_norm: float,
    adam_beta2: float,
    optim: str,
    bf16: str,
    report_to: str,
    save_steps: int,
    seed: int,
    evaluates: bool = False,
) -> TrainingArguments:
    """Return the arguments of a training with a cosine schedule.

    Args:
        folder: the folder of the trainer's checkpoints.
        num_steps: optimizer steps.
        micro_batch_size: rows that go through a device at once.
        gradient_accumulation_steps: micro batches of a process whose gradients make one step.
        learning_rate: peak.
        weight_decay: AdamW's weight decay.
        warmup_ratio: fraction of the steps in which the learning rate rises.
        max_grad_norm: gradients are clipped to it.
        adam_beta2: AdamW's second beta.
        optim: the optimizer, as transformers names it.
        bf16: "yes", "no", or "auto" for "yes" where the machine computes it natively.
        report_to: libraries that losses are reported to, separated by commas, or "none".
        save_steps: steps between two checkpoints.
        seed: of dropout.
        evaluates: measure the loss of rows of val before each checkpoint, and end with the best one's weights.

    Raises:
        UserError: the DeepSpeed configuration that the launcher named is missing.
        RuntimeError: the processes are not connected to each other.
    """
    find_deepspeed_config()
    free_extensions()
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=num_steps,
        per_device_train_batch_size=micro_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(warmup_ratio * num_steps),
        max_grad_norm=max_grad_norm,
        adam_beta2=adam_beta2,
        optim=optim,
        bf16=computes_bf16(bf16),
        use_cpu=not torch.cuda.is_available(),
        ddp_backend="gloo" if "RANK" in os.environ and not torch.cuda.is_available() else None,
        ddp_find_unused_parameters=False,
        train_sampling_strategy="sequential",
        save_strategy="steps",
        save_steps=save_steps,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[name.strip() for name in report_to.split(",")],
        seed=seed,
        **(_evaluation(save_steps, micro_batch_size) if evaluates else {}),
    )
    if arguments.world_size != num_processes():
        raise RuntimeError(f"{num_processes()} processes were launched, but each sees {arguments.world_size}")
    return arguments


def _evaluation(every: int, micro_batch_size: int) -> dict[str, Any]:
    return {
        "eval_strategy": "steps",
        "eval_steps": every,
        "per_device_eval_batch_size": micro_batch_size,
        "prediction_loss_only": True,
        "metric_for_best_model": "loss",
        "greater_is_better": False,
        "load_best_model_at_end": True,
    }
