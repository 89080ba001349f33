"""Say what the trainings of a configuration need, before anything is downloaded or started.

    semcore plan --config recipes/configs/flickr30k_internvl2_5-1b_full.yaml --gpus 2 --gpu-memory 48
    semcore plan --config X.yaml --model InternVL2_5-1B --num-images 29000 --tokens-per-second 10000 --json

Of the checkpoint only `config.json` is read, so a folder that holds nothing else will do; the sizes of
InternVL2.5 from 1B to 8B are known before anything is there. For all
trainings in it, it counts the parameters that train, the memory a GPU needs with every ZeRO stage of
`ds_configs`, how many rows it can take at once, the steps, and the time at a speed you know.
These are estimates: a training that fills its memory to the brim may still fail.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from semcore.commands.arguments import parse, require_minimum
from semcore.data.dataset import load_dataset
from semcore.runtime.config_file import read_yaml
from semcore.runtime.errors import UserError
from semcore.training.memory_plan.plan import Machine, TrainingPlan, plan_identifier, plan_ranking, plan_verifier
from semcore.training.memory_plan.sections import IdentifierTraining, RankingTraining, VerifierTraining
from semcore.training.memory_plan.zero_options import Option

S = TypeVar("S")


@dataclass
class PlanSettings:
    """What `semcore plan` takes."""

    config: Path
    """The YAML file that the recipes read."""
    model: str | None = None
    """The checkpoint, instead of the file's: a folder with config.json, or a hub id that is cached."""
    gpus: int = 1
    """How many GPUs, in one machine."""
    gpu_memory: float = 48.0  # paper, A.1: an A40
    """Gigabytes (10^9 bytes) of each."""
    data: Path | None = None
    """A dataset folder, to count the training images and their sentences of."""
    num_images: int | None = None
    """How many training images there are, without --data."""
    sentences_per_image: int = 5  # Flickr30K and MSCOCO
    """How many sentences each has, without --data."""
    tokens_per_second: float | None = None
    """Throughput of a GPU in tokens per second, to compute the duration."""
    json: bool = False
    """Print JSON, for machines."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "gpus", "num_images", "sentences_per_image")
        for name in ("gpu_memory", "tokens_per_second"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"--{name.replace('_', '-')} must be above 0, found {value}")
        if self.data is not None and self.num_images is not None:
            raise UserError("--data counts the images itself: leave --num-images out")


def main(settings: PlanSettings) -> None:
    """Print the plan of each training that the file configures."""
    sections = read_yaml(settings.config)
    machine = Machine(settings.gpus, round(settings.gpu_memory * 1e9))
    images = count_images(settings)
    path, model = settings.config, settings.model
    generator = read_training(IdentifierTraining, "train_identifier", path)
    plans = [plan_identifier(generator, path, model, machine, images)]
    if isinstance(sections, dict) and "train_ranking" in sections:
        ranking = read_training(RankingTraining, "train_ranking", path)
        plans.append(plan_ranking(ranking, generator, path, model, machine, images))
    if isinstance(sections, dict) and "train_verifier" in sections:
        verifier = read_training(VerifierTraining, "train_verifier", path)
        plans.append(plan_verifier(verifier, generator, path, model, machine, images))
    if settings.json:
        facts = [facts_of(plan, settings.tokens_per_second) for plan in plans]
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(text_of(plan, settings.tokens_per_second) for plan in plans))


def read_training(kind: type[S], section: str, path: Path) -> S:
    """Read a training's section as its recipe does.

    Raises:
        UserError: the file is missing or holds something a training does not take.
    """
    return parse(kind, ["--config", str(path)], section)


def count_images(settings: PlanSettings) -> tuple[int, int] | None:
    """Return the numbers of training images and of sentences per image, None where they are unknown."""
    if settings.data is None:
        return None if settings.num_images is None else (settings.num_images, settings.sentences_per_image)
    images = load_dataset(settings.data).split("train")
    sentences = sum(len(record.sentences) for record in images)
    return len(images), round(sentences / max(1, len(images)))


def facts_of(plan: TrainingPlan, tokens_per_second: float | None) -> dict[str, Any]:
    """Return a plan as plain data; bytes are per GPU, "host" is the host memory."""
    chosen = plan.chosen
    return {
        "stage": plan.stage,
        "model": plan.model,
        "lora_rank": plan.lora_rank,
        "quantization": plan.quantization,
        "optim": plan.optim,
        "parameters": asdict(plan.parameters),
        "row_tokens": plan.row.num_tokens,
        "zero": {
            option.zero: {
                "fits": option.micro_batch_size > 0,
                "micro_batch_size": option.micro_batch_size or None,
                "bytes": {**asdict(option.memory), "total": option.memory.total},
            }
            for option in plan.options
        },
        "suggested": None if chosen is None else {"zero": chosen.zero, "micro_batch_size": chosen.micro_batch_size},
        "num_rows": plan.num_rows,
        "num_steps": plan.num_steps,
        "seconds": plan.seconds(tokens_per_second),
    }


COLUMNS = ("weights", "gradients", "optimizer", "activations", "other", "total")


def text_of(plan: TrainingPlan, tokens_per_second: float | None) -> str:
    """Return a training's needs as text and a table, with the recommended stage and the duration."""
    parameters = plan.parameters
    lines = [
        f"{plan.stage}: {plan.model}, {parameters.total:,} parameters, {parameters.trained:,} trained ({_how(plan)})",
        f"rows of up to {plan.row.num_tokens:,} tokens, {plan.batch_size} a step; GB on each of {_gpus(plan)}:",
        *_table(plan.options),
        _suggestion(plan),
        _steps(plan) + _time(plan, tokens_per_second),
    ]
    return "\n".join(lines) + "\n"


def _how(plan: TrainingPlan) -> str:
    how = f"LoRA of rank {plan.lora_rank}" if plan.lora_rank else "full"
    base = "" if plan.quantization == "none" else f" on a base in {plan.quantization}"
    return how + base + ("" if plan.optim == "adamw_torch_fused" else f", {plan.optim}")


def _table(options: list[Option]) -> list[str]:
    rows = [["", *COLUMNS, "host", "micro batch"]]
    for option in options:
        memory = option.memory
        sizes = [f"{getattr(memory, name) / 1e9:.1f}" for name in (*COLUMNS, "host")]
        rows.append([option.zero, *sizes, str(option.micro_batch_size) if option.micro_batch_size else "does not fit"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _suggestion(plan: TrainingPlan) -> str:
    if plan.chosen is None:
        lora = ", or train with LoRA (lora.rank: 16)"
        if plan.lora_rank:
            lora = ", or pack the base into four bits (lora.quantization: nf4)" if plan.quantization == "none" else ""
        return f"does not fit: take more GPUs, or larger ones{lora}"
    chosen = plan.chosen
    return f"suggested: ds_configs/{chosen.zero}.yaml with --training.micro-batch-size {chosen.micro_batch_size}"


def _gpus(plan: TrainingPlan) -> str:
    machine = plan.machine
    return f"{machine.num_gpus} GPU{'s' if machine.num_gpus > 1 else ''} of {machine.gpu_memory / 1e9:g} GB"


def _steps(plan: TrainingPlan) -> str:
    if plan.num_steps is None:
        return "steps: give --num-images or --data"
    return f"about {plan.num_rows:,} rows an epoch, {plan.num_steps:,} steps"


def _time(plan: TrainingPlan, tokens_per_second: float | None) -> str:
    seconds = plan.seconds(tokens_per_second)
    if seconds is None:
        return ""
    return f", {seconds / 3600:,.1f} hours at {tokens_per_second:,.0f} tokens a second and GPU"
