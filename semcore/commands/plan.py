"""Say what the trainings of a configuration need, before anything is downloaded or started.

    semcore plan --config recipes/configs/flickr30k_internvl2_5-1b_full.yaml --gpus 2 --gpu-memory 48
    semcore plan --config X.yaml --model InternVL2_5-1B --num-images 29000 --tokens-per-second 10000 --json

Of the checkpoint only `config.json` is read, so a folder that holds nothing else will do; the sizes of
InternVL2.5 from 1B to 8B are known before anything is there. For both
trainings it counts the parameters that train, the memory a GPU needs with every ZeRO stage of
`ds_configs`, how many rows it can take at once, the steps, and the time at a speed you know.
These are estimates: a training that fills its memory to the brim may still fail.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from semcore.commands.plan_tables import text_of
from semcore.data.dataset import load_dataset
from semcore.runtime.config_file import read_yaml
from semcore.runtime.errors import UserError
from semcore.runtime.settings import require_minimum
from semcore.training.memory_plan.plan import Machine, TrainingPlan, plan_identifier, plan_verifier


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
    """Tokens a GPU trains on in a second, to say how long it takes."""
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
    plans = [plan_identifier(settings.config, settings.model, machine, images)]
    if isinstance(sections, dict) and "train_verifier" in sections:
        plans.append(plan_verifier(settings.config, settings.model, machine, images))
    if settings.json:
        facts = [facts_of(plan, settings.tokens_per_second) for plan in plans]
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(text_of(plan, settings.tokens_per_second) for plan in plans))


def count_images(settings: PlanSettings) -> tuple[int, int] | None:
    """Return how many training images there are and how many sentences each has, None where nothing says so."""
    if settings.data is None:
        return None if settings.num_images is None else (settings.num_images, settings.sentences_per_image)
    images = load_dataset(settings.data).split("train")
    sentences = sum(len(record.sentences) for record in images)
    return len(images), round(sentences / max(1, len(images)))


def facts_of(plan: TrainingPlan, tokens_per_second: float | None) -> dict[str, Any]:
    """Return a plan as plain data; bytes are a GPU's, "host" is the machine's own memory."""
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
                "fits": option.rows_a_device > 0,
                "rows_a_device": option.rows_a_device or None,
                "bytes": {**asdict(option.memory), "total": option.memory.total},
            }
            for option in plan.options
        },
        "suggested": None if chosen is None else {"zero": chosen.zero, "rows_a_device": chosen.rows_a_device},
        "num_rows": plan.num_rows,
        "num_steps": plan.num_steps,
        "seconds": plan.seconds(tokens_per_second),
    }
