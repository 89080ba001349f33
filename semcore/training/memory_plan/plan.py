"""Training plans from a configuration file and a machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import InternVLConfig

from semcore.data.directions import named_directions
from semcore.models.quantization import Quantization
from semcore.runtime.config_file import read_yaml
from semcore.runtime.errors import UserError
from semcore.training.memory_plan.activations import RowSize, activation_bytes
from semcore.training.memory_plan.parameters import Parameters, count_extras, count_parameters, read_model_config
from semcore.training.memory_plan.sections import (
    IdentifierTraining,
    RankingTraining,
    VerifierModel,
    VerifierTraining,
    read_elsewhere,
    read_num_cluster_tokens,
)
from semcore.training.memory_plan.workload import (
    Workload,
    identifier_workload,
    num_steps,
    ranking_workload,
    verifier_workload,
)
from semcore.training.memory_plan.zero_options import Option, choose, options
from semcore.training.schedule import divide_batch
from semcore.training.settings import LoraSettings, ModelSettings, Optim, TrainingSettings

KEYWORDS = 8_000  # ours: the words of Flickr30K's captions that are keywords, rounded up


@dataclass(frozen=True)
class Machine:
    """GPUs of one machine, and the bytes of each."""

    num_gpus: int
    gpu_memory: int


@dataclass(frozen=True)
class TrainingPlan:
    """The needs of one training; rows and steps are None where the number of images is not known."""

    stage: str
    model: str
    lora_rank: int
    quantization: Quantization
    optim: Optim
    batch_size: int
    machine: Machine
    parameters: Parameters
    row: RowSize
    options: list[Option]
    chosen: Option | None
    num_rows: int | None
    num_steps: int | None
    num_tokens: int | None

    def seconds(self, tokens_per_second: float | None) -> float | None:
        """Return the duration of the training in seconds, given the throughput of each GPU in tokens per second."""
        if tokens_per_second is None or self.num_tokens is None:
            return None
        return self.num_tokens / (tokens_per_second * self.machine.num_gpus)


def plan_identifier(
    section: IdentifierTraining, path: Path, model: str | None, machine: Machine, images: tuple[int, int] | None
) -> TrainingPlan:
    """Plan the training of the identifier model.

    Args:
        section: how it is trained.
        path: the configuration file that says so; what it says of other stages is read from there.
        model: the checkpoint, instead of the file's.
        machine: the machine it runs on.
        images: number of training images, and of sentences per image.

    Raises:
        UserError: the file or the model's configuration is wrong or missing, or the GPUs cannot share a step.
    """
    name = _name(model or section.model.base, path)
    config = read_model_config(name)
    work = identifier_workload(
        *(images or (0, 0)),
        image_tokens=config.image_seq_length,
        num_keywords=read_elsewhere(path, "identifiers", "num_keywords"),
        row_tokens=section.row_tokens,
        held_out_sentences=section.held_out.sentences_per_image,
        held_out_fraction=section.held_out.image_fraction,
        directions=named_directions(section.directions),
        captions=section.queries.captions != "none",
        own_images=section.queries.images != "none",
        num_copies=section.losses.objective().num_copies,
    )
    return _plan(
        "train_identifier", name, config, section.model, section.lora, section.training, work,
        read_num_cluster_tokens(path), machine, known=images is not None, num_extra=_extras(section, config, path),
        num_copies=section.losses.objective().num_copies,
    )  # fmt: skip


def plan_ranking(
    section: RankingTraining,
    generator: IdentifierTraining,
    path: Path,
    model: str | None,
    machine: Machine,
    images: tuple[int, int] | None,
) -> TrainingPlan:
    """Plan a round of the ranking stage, given the generator's training too; the rest as in `plan_identifier`."""
    name = _name(model or generator.model.base, path)
    config = read_model_config(name)
    work = ranking_workload(
        *(images or (0, 0)),
        image_tokens=config.image_seq_length,
        num_keywords=read_elsewhere(path, "identifiers", "num_keywords"),
        num_found=section.ranking.num_beams,
        held_out_sentences=generator.held_out.sentences_per_image,
        held_out_fraction=generator.held_out.image_fraction,
        limit=section.ranking.limit,
        directions=named_directions(section.directions or generator.directions),
    )
    return _plan(
        "train_ranking", name, config, ModelSettings(), generator.lora, section.training, work,
        read_num_cluster_tokens(path), machine, known=images is not None, num_extra=_extras(generator, config, path),
    )  # fmt: skip


def _extras(section: IdentifierTraining, config: InternVLConfig, path: Path) -> int:
    """Return the parameters of the extra modules; identifiers with keywords have `KEYWORDS` different ones."""
    modules, scheme = section.losses.modules(), (read_yaml(path).get("identifiers") or {}).get("scheme", "structured")
    num_units = read_num_cluster_tokens(path) + (KEYWORDS if scheme == "structured" else 0)
    return count_extras(config, num_units if modules["has_set_head"] else 0, modules["num_fused"])


def plan_verifier(
    section: VerifierTraining,
    generator: IdentifierTraining,
    path: Path,
    model: str | None,
    machine: Machine,
    images: tuple[int, int] | None,
) -> TrainingPlan:
    """Plan the training of the verifier, given the generator's too; the rest as in `plan_identifier`."""
    name = _name(model or section.model.base or generator.model.base, path)
    config = read_model_config(name)
    work = verifier_workload(
        images[0] if images else 0,
        image_tokens=config.image_seq_length,
        num_keywords=read_elsewhere(path, "identifiers", "num_keywords"),
        num_candidates=read_elsewhere(path, "candidates", "num_candidates"),
        extra_questions=section.extra_questions,
        held_out_sentences=generator.held_out.sentences_per_image,
        held_out_fraction=generator.held_out.image_fraction,
        limit=read_elsewhere(path, "candidates", "limit"),
        attention=section.attention,
        directions=named_directions(section.directions or generator.directions),
    )
    new_tokens = read_num_cluster_tokens(path) if section.model.start == "identifier" else 0
    return _plan(
        "train_verifier", name, config, section.model, section.lora, section.training, work, new_tokens, machine,
        known=images is not None,
    )  # fmt: skip


def _name(name: str | None, path: Path) -> str:
    if not name:
        raise UserError(f"{path} names no model: give --model a folder that holds config.json, or a hub id")
    return name


def _plan(
    stage: str,
    name: str,
    config: InternVLConfig,
    model: ModelSettings | VerifierModel,
    lora: LoraSettings,
    training: TrainingSettings,
    work: Workload,
    num_new_tokens: int,
    machine: Machine,
    *,
    known: bool,
    num_extra: int = 0,
    num_copies: int = 1,
) -> TrainingPlan:
    micro_batch, accumulation_steps = divide_batch(training.batch_size, machine.num_gpus, training.micro_batch_size)
    parameters = count_parameters(
        config, num_new_tokens=num_new_tokens, freeze_vision=model.freeze_vision,
        freeze_projector=model.freeze_projector, lora_rank=lora.rank, target_modules=lora.target_modules,
        quantization=lora.quantization, num_extra=num_extra,
    )  # fmt: skip
    found = options(
        parameters,
        lambda rows: _activations(config, model, lora, training, work.largest, rows * num_copies),
        micro_batch * accumulation_steps,
        num_gpus=machine.num_gpus,
        gpu_memory=machine.gpu_memory,
        element_bytes=_element_bytes(training),
        quantization=lora.quantization,
        optim=training.optim,
    )
    steps = num_steps(work.num_rows, training.batch_size, training.num_epochs, training.max_steps)
    tokens = work.num_tokens * steps * training.batch_size // max(1, work.num_rows)
    return TrainingPlan(
        stage=stage, model=name, lora_rank=lora.rank, quantization=lora.quantization, optim=training.optim,
        batch_size=training.batch_size, machine=machine,
        parameters=parameters, row=work.largest, options=found, chosen=choose(found, micro_batch),
        num_rows=work.num_rows if known else None,
        num_steps=steps if known else None,
        num_tokens=tokens if known else None,
    )  # fmt: skip


def _activations(
    config: InternVLConfig,
    model: ModelSettings | VerifierModel,
    lora: LoraSettings,
    training: TrainingSettings,
    row: RowSize,
    num_rows: int,
) -> int:
    return activation_bytes(
        config, row, num_rows, checkpointing=training.gradient_checkpointing, lora=lora.rank > 0,
        freeze_vision=model.freeze_vision, freeze_projector=model.freeze_projector,
        element_bytes=_element_bytes(training),
    )  # fmt: skip


def _element_bytes(training: TrainingSettings) -> int:
    return 4 if training.bf16 == "no" else 2  # "auto": every GPU since 2020 computes bfloat16
