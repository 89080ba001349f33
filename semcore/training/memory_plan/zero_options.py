"""One training on given GPUs: what each ZeRO stage needs, the batch that fits, and which stage to take."""

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
    """Return what every ZeRO stage that can train so needs, at the most rows that fit.

    Args:
        parameters: of the model.
        activations: rows a GPU takes at once -> bytes.
        own_rows: rows a step of one GPU; only what divides them can be taken at once.
        num_gpus: how many GPUs.
        gpu_memory: bytes of each.
        element_bytes: 2 for bfloat16, 4 for float32.
        quantization: of the base under an adapter.
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
