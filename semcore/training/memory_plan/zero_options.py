"""ZeRO options of a training on given GPUs: memory of each stage, the micro batch that fits, the recommended stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from semcore.models.quantization import Quantization
from semcore.training.memory_plan.memory import Memory, Zero, memory_of, possible_zeros
from semcore.training.memory_plan.parameters import Parameters
from semcore.training.settings import Optim


@dataclass(frozen=True)
class Option:
    """A ZeRO stage: the largest micro batch that fits (0: not even one row), and the memory it takes (or one row's)."""

    zero: Zero
    micro_batch_size: int
    memory: Memory


def options(
    parameters: Parameters,
    activations: Callable[[int], int],
    own_rows: int,
    *,
    num_gpus: int,
    gpu_memory: int,
    element_bytes: int,
    quantization: Quantization = "none",
    optim: Optim = "adamw_torch_fused",
) -> list[Option]:
    """Return every ZeRO stage that supports the training, with the largest micro batch that fits and its memory.

    Args:
        parameters: the model's parameters.
        activations: rows in a micro batch -> bytes.
        own_rows: rows per step of one GPU, which the micro batch must divide.
        num_gpus: number of GPUs.
        gpu_memory: memory of each in bytes.
        element_bytes: 2 for bfloat16, 4 for float32.
        quantization: quantisation of an adapter's base.
        optim: the optimizer.
    """

    def memory(zero: Zero, rows: int) -> Memory:
        return memory_of(
            zero, parameters, activations(rows), num_gpus=num_gpus, element_bytes=element_bytes, optim=optim
        )

    sizes = [rows for rows in range(own_rows, 0, -1) if own_rows % rows == 0]
    zeros = possible_zeros(quantization, optim)
    found = {zero: next((rows for rows in sizes if memory(zero, rows).total <= gpu_memory), 0) for zero in zeros}
    return [Option(zero, rows, memory(zero, rows or 1)) for zero, rows in found.items()]


def choose(found: list[Option], wished: int) -> Option | None:
    """Return the lowest stage whose micro batch reaches `wished`, else the one with the largest; None if none fits."""
    enough = [option for option in found if option.micro_batch_size >= wished]
    best = enough[0] if enough else max(found, key=lambda option: option.micro_batch_size)
    return best if best.micro_batch_size else None
