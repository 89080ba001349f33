"""Memory of a training on one GPU in bytes, by ZeRO stage, as DeepSpeed partitions it.

In mixed precision each trained parameter takes 20 bytes: weight and gradient in bfloat16 (2 + 2), and in
float32 the gradient, the master copy and AdamW's two moments (4 + 4 + 8) (DeepSpeed's
`estimate_zero2_model_states_mem_needs`). Stage 1 partitions the float32 states, stage 2 the gradients too,
stage 3 the weights too; offload moves the partitioned states into host memory.

8-bit AdamW keeps each moment in a byte, plus a factor of four bytes per block of 256. NF4 weights take half
a byte, plus a byte per block of 64 and four bytes per 256 of those blocks (QLoRA, section 3).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from semcore.models.quantization import Quantization
from semcore.runtime.packaged_files import resource_folder
from semcore.training.memory_plan.parameters import Parameters
from semcore.training.settings import Optim

Zero = Literal["zero1", "zero2", "zero3", "zero3_offload"]
ZEROS: tuple[Zero, ...] = ("zero1", "zero2", "zero3", "zero3_offload")
CONTEXT_BYTES = 2_000_000_000  # ours: CUDA's and NCCL's contexts, and fragmentation
PACKED_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)
STATE_BYTES: dict[Optim, float] = {
    "adamw_torch_fused": 4 + 8,
    "adamw_8bit": 4 + 2 * (1 + 4 / 256),
    "paged_adamw_8bit": 4 + 2 * (1 + 4 / 256),
}
HOST_FACTOR = 1.5  # DeepSpeed's additional_buffer_factor


@dataclass(frozen=True)
class Memory:
    """Memory of one GPU, and host memory for all GPUs of the machine, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    other: int
    host: int

    @property
    def total(self) -> int:
        """Return the GPU's memory in all."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.other


def possible_zeros(quantization: Quantization, optim: Optim) -> tuple[Zero, ...]:
    """Return the configurations that `semcore.training.option_checks.check_mode` accepts."""
    if quantization != "none":
        return ("zero1", "zero2")
    return ZEROS if optim == "adamw_torch_fused" else ("zero1", "zero2", "zero3")


def memory_of(
    zero: Zero,
    parameters: Parameters,
    activations: int,
    *,
    num_gpus: int,
    element_bytes: int,
    optim: Optim = "adamw_torch_fused",
) -> Memory:
    """Return the memory that a training needs.

    Args:
        zero: the name of a configuration in `ds_configs`.
        parameters: the model's parameters.
        activations: activation memory of one batch in bytes.
        num_gpus: number of GPUs of the partition, on one machine.
        element_bytes: 2 for bfloat16, 4 for float32.
        optim: the optimizer.
    """
    trained = parameters.trained
    weights = (parameters.total - parameters.packed) * element_bytes + round(parameters.packed * PACKED_BYTES)
    low, high, states = trained * element_bytes, trained * 4, round(trained * STATE_BYTES[optim])
    other = CONTEXT_BYTES + _buffers(zero, parameters, element_bytes)
    if zero == "zero3_offload":
        return Memory(0, 0, 0, activations, other, round(HOST_FACTOR * (weights + high + states)))
    return Memory(
        weights=-(-weights // num_gpus) if zero == "zero3" else weights,
        gradients=(low if zero == "zero1" else -(-low // num_gpus)) + -(-high // num_gpus),
        optimizer=-(-states // num_gpus),
        activations=activations,
        other=other,
        host=0,
    )


def _buffers(zero: Zero, parameters: Parameters, element_bytes: int) -> int:
    """Return the bytes of the gradient buckets; in stage 3, of the largest gathered weight and its gradient."""
    if zero.startswith("zero3"):
        return 2 * parameters.largest * element_bytes
    path = resource_folder("ds_configs") / f"{zero}.json"
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["zero_optimization"]
    num_buckets = 2 if settings.get("overlap_comm") else 1
    return num_buckets * int(settings["reduce_bucket_size"]) * element_bytes
