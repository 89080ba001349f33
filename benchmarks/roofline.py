"""Roofline of a device: the least time that a computation can take on it, beside which measured times are shown.

Both limits are measured where the benchmark runs: the products of a large matrix, and the copying of memory. A decoder
costs two operations a weight and token, and its weights are read once a pass; attention, the vision tower and all
overhead are left out, so that a fraction of the roofline says too little rather than too much.

Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.timing import timed

MATRIX = {"cuda": 8192, "cpu": 512}
BYTES = {"cuda": 1 << 32, "cpu": 1 << 26}
REPEATS = 5


@dataclass(frozen=True)
class Roofline:
    """The limits of a device in one precision.

    Attributes:
        operations_per_s: multiplications and additions of a matrix product.
        bytes_per_s: read and written.
        itemsize: bytes of a weight.
    """

    operations_per_s: float
    bytes_per_s: float
    itemsize: int

    def least_s(self, operations: float, weights_read: float) -> float:
        """Return the seconds that so many operations, and the reading of so many weights, take at least."""
        return max(operations / self.operations_per_s, weights_read * self.itemsize / self.bytes_per_s)

    def as_record(self) -> dict[str, float]:
        """Return the limits as they are saved beside the rows."""
        return {"teraflops": self.operations_per_s / 1e12, "gigabytes_per_s": self.bytes_per_s / 1e9}


@dataclass(frozen=True)
class Decoder:
    """The weights of a decoder that a token passes.

    Attributes:
        body: of all layers.
        head: of the output head.
    """

    body: int
    head: int

    @classmethod
    def of(cls, model: Any) -> Decoder:
        """Count those of a model, or of the text model inside it."""
        config = model.config.get_text_config()
        hidden, inner = config.hidden_size, config.intermediate_size
        head_size = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
        attention = 2 * hidden * hidden + 2 * hidden * config.num_key_value_heads * head_size
        return cls(config.num_hidden_layers * (attention + 3 * hidden * inner), hidden * config.vocab_size)


def measure_roofline(device: str, dtype: torch.dtype) -> Roofline:
    """Measure a device's limits: the best of some runs of each."""
    size = MATRIX[device]
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    source = torch.empty(BYTES[device], device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    product = min(timed(lambda: matrix @ matrix) for _ in range(REPEATS))
    copy = min(timed(lambda: target.copy_(source)) for _ in range(REPEATS))
    return Roofline(2 * size**3 / product, 2 * len(source) / copy, matrix.element_size())


def least_search_s(
    roofline: Roofline,
    decoder: Decoder,
    *,
    num_queries: int,
    prompt_tokens: int,
    num_beams: int,
    mean_length: float,
    whole_vocabulary: bool,
) -> float:
    """Return the seconds that a beam search takes at least: each prompt is read once, each beam's tokens once.

    Args:
        roofline: of the device.
        decoder: of the model.
        num_queries: searched at once.
        prompt_tokens: of a query.
        num_beams: width of the beam.
        mean_length: tokens of an identifier, the end token included; the last one is not read.
        whole_vocabulary: whether the output head is computed for every token, or for those of identifiers alone, whose
            cost is left out.
    """
    beam_tokens = num_beams * (mean_length - 1)
    operations = 2 * decoder.body * (prompt_tokens + beam_tokens)
    if whole_vocabulary:
        operations += 2 * decoder.head * (1 + beam_tokens)
    weights = decoder.body + decoder.head * whole_vocabulary
    return roofline.least_s(num_queries * operations, weights * mean_length)


def of_roofline(least_s: float, taken_s: float) -> str:
    """Say how much of the possible speed is reached."""
    return f"{100 * least_s / taken_s:.1f} % of the roofline ({least_s:.2g} s)"
