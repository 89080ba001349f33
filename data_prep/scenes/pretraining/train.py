"""Training of the base checkpoint on one course, with `transformers.Trainer`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from data_prep.scenes.pretraining.courses import Course, Lessons
from data_prep.scenes.pretraining.lesson_data import LessonData
from data_prep.scenes.pretraining.losses import total_loss
from data_prep.scenes.pretraining.visual_words import word_group_tokens
from semcore.runtime.native_precision import native_dtype


class PretrainingTrainer(Trainer):
    """A trainer whose losses come from `losses.py`, averaged over a step's lessons."""

    def __init__(self, data: LessonData, **settings: Any):
        super().__init__(**settings)
        self.model_accepts_loss_kwargs = False  # the trainer then divides the loss by the lessons of a step
        self.word_groups = [group.to(self.args.device) for group in word_group_tokens(data.tokenizer)]

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *_: Any, **__: Any) -> torch.Tensor:
        """Return the total loss of one lesson's batch, a scalar ()."""
        with self.accelerator.autocast():
            return total_loss(model, inputs, self.word_groups)


@dataclass(frozen=True)
class Machine:
    """The device of a course, "cpu" or "cuda", and the number of worker processes that make its batches."""

    device: str = "cpu"
    num_workers: int = 0


def train_course(model: Any, data: LessonData, course: Course, work: Path, seed: int, machine: Machine) -> Any:
    """Train the model on a course, from the last checkpoint in `work` if there is one.

    Args:
        model: the model, trained in place.
        data: the tokenizer, the prompts and the scenes.
        course: the lessons and the peak learning rate.
        work: the folder of the trainer's checkpoints.
        seed: seed of the order of the lessons.
        machine: the device and the worker processes.
    """
    model.model.language_model.set_attn_implementation("eager")  # the backward pass of the others is slower here
    num_steps = sum(term.num_steps for term in course.terms)
    terms = [replace(term, num_steps=term.num_steps * course.lessons_per_step) for term in course.terms]
    steps_done = max((int(path.name.split("-")[1]) for path in work.glob("checkpoint-*")), default=0)
    last = work / f"checkpoint-{steps_done}"
    if steps_done:
        # The trainer itself would not find the weights: they have other names in a saved InternVL.
        model.load_state_dict(type(model).from_pretrained(last, dtype=torch.float32).state_dict())
    trainer = PretrainingTrainer(
        data,
        model=model,
        args=_arguments(work, num_steps, course, seed, machine),
        train_dataset=Lessons(data, terms, seed, first_batch=steps_done * course.lessons_per_step),
        data_collator=lambda batches: batches[0],
    )
    if steps_done < num_steps:
        trainer.train(resume_from_checkpoint=str(last) if steps_done else None)
    return model


def _arguments(work: Path, num_steps: int, course: Course, seed: int, machine: Machine) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(work),
        max_steps=num_steps,
        per_device_train_batch_size=1,  # the lessons make whole batches
        gradient_accumulation_steps=course.lessons_per_step,
        learning_rate=course.learning_rate,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": course.num_decay_steps, "decay_type": "linear"},
        warmup_steps=30,
        weight_decay=0.01,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        bf16=native_dtype(machine.device) == "bfloat16",
        use_cpu=machine.device == "cpu",
        dataloader_num_workers=machine.num_workers,
        logging_steps=50,
        save_steps=250,
        save_total_limit=2,
        ignore_data_skip=True,  # `Lessons` starts at the right step
        # A batch has more images than rows; accelerate's dispatcher would cut the images to the rows.
        accelerator_config={"dispatch_batches": False},
        remove_unused_columns=False,
        report_to="none",
        seed=seed,
    )
