"""Time per step of a whole search as the corpus grows: the constraint and the model together."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import random_models
from benchmarks.corpora import VOCABULARY
from benchmarks.report import Row, lower_is_better
from benchmarks.timing import interleaved_medians
from semcore.decoding import IdentifierIndex, constrained_beam_search

NUM_BEAMS = 20


def search_step_rows(device: str, indices: dict[int, IdentifierIndex], repeats: int) -> list[Row]:
    """Time the steps of one query's search in corpora of several sizes; the ratio is against the smallest.

    Args:
        device: where the model runs.
        indices: the indices by their number of identifiers, on that device.
        repeats: searches of each corpus that count.
    """
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model, inputs = (
        random_models.text_model(random_models.TINY, VOCABULARY, device, dtype),
        random_models.text_prompts(1, device),
    )
    passes = {size: _num_passes(model, inputs, index) for size, index in indices.items()}

    def search(index: IdentifierIndex) -> Any:
        return lambda: constrained_beam_search(model, inputs, index, NUM_BEAMS)

    seconds = interleaved_medians({str(size): search(index) for size, index in indices.items()}, repeats)
    steps = {size: seconds[str(size)] / passes[size] for size in indices}
    smallest = steps[min(steps)]
    return [
        lower_is_better(
            f"{size}: search step, 1 query, {NUM_BEAMS} beams",
            step,
            smallest,
            "s",
            f"{step / smallest:.2f} times that of {min(steps)} identifiers; {passes[size]} passes",
        )
        for size, step in steps.items()
    ]


def _num_passes(model: Any, inputs: dict[str, torch.Tensor], index: IdentifierIndex) -> int:
    passes = []
    hook = model.get_decoder().register_forward_hook(lambda *_: passes.append(1))
    constrained_beam_search(model, inputs, index, NUM_BEAMS)
    hook.remove()
    return len(passes)
