"""Conversion of weights file by file: each original file becomes one native file, and only one is open at a time.

Tensors that only change their name are read from the original file while the new one is written; only the
fused projections of InternLM2 are copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import InternVLConfig, InternVLForConditionalGeneration

from semcore.models.conversion.weight_names import Heads, Move, move_of
from semcore.models.weight_files import INDEX, WEIGHTS, WeightFile, opened
from semcore.runtime.errors import UserError

DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
HEADS = ("language_model.lm_head.weight", "language_model.output.weight")


def is_tied(files: Sequence[WeightFile]) -> bool:
    """Return whether the output head is tied to the input embedding, and so not stored."""
    return not any(head in file.shapes for file in files for head in HEADS)


def stored_dtype(files: Sequence[WeightFile]) -> str:
    """Return the dtype that the weights are stored in, such as "bfloat16".

    Raises:
        UserError: they have several dtypes, or one that is not a float of 16 or 32 bits.
    """
    found = sorted({dtype for file in files for dtype in file.dtypes.values()})
    if len(found) != 1 or found[0] not in DTYPES:
        raise UserError(
            f"{files[0].path.parent} stores weights as {', '.join(found)}; one of {', '.join(DTYPES)} is needed"
        )
    return DTYPES[found[0]]


def plan_moves(files: Sequence[WeightFile], config: InternVLConfig, heads: Heads) -> dict[str, Move]:
    """Return the mapping of every original weight, after comparing its result with the native model.

    Raises:
        UserError: the weights are not those of the model that the configuration describes.
    """
    folder = files[0].path.parent
    moves: dict[str, Move] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        for name, shape in file.shapes.items():
            move = move_of(name, heads)
            if move is None:
                raise UserError(f"{folder} has a weight {name}, which InternVL2.5 and InternVL3 have not")
            moves[name] = move
            shapes |= _shapes_after(move, shape, heads)
    _compare(folder, shapes, native_shapes(config))
    return moves


def _shapes_after(move: Move, shape: tuple[int, ...], heads: Heads) -> dict[str, tuple[int, ...]]:
    try:
        parts = move.split(torch.empty(shape, device="meta"))
    except RuntimeError:  # The first dimension does not divide into heads: reported as a wrong shape.
        parts = [torch.empty(shape, device="meta")] * len(move.targets)
    return {target: tuple(part.shape) for target, part in zip(move.targets, parts, strict=False)}


def native_shapes(config: InternVLConfig) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every weight that a native folder stores; nothing is allocated."""
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config)
    shapes = {_stored_name(name): tuple(weight.shape) for name, weight in model.named_parameters()}
    if config.tie_word_embeddings:
        shapes.pop("language_model.lm_head.weight", None)
    return shapes


def _stored_name(name: str) -> str:
    """Return a parameter's name in the file: the text model is stored like a separate model."""
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    return name.removeprefix("model.").replace("language_model.", "language_model.model.", 1)


def _compare(folder: Path, found: dict[str, tuple[int, ...]], needed: dict[str, tuple[int, ...]]) -> None:
    for sentence, names in (
        ("lacks the weights of {}", needed.keys() - found.keys()),
        ("has weights its config.json does not speak of: {}", found.keys() - needed.keys()),
    ):
        if names:
            first = sentence.format(min(names))
            raise UserError(f"{folder} {first} ({len(names)} in all); download its config.json and weights again")
    for name, shape in sorted(needed.items()):
        if found[name] != shape:
            raise UserError(
                f"{folder}: {name} is {found[name]} in the weights and {shape} by config.json; download both again"
            )


def convert_weights(files: Iterable[WeightFile], num_files: int, moves: dict[str, Move], folder: Path) -> None:
    """Write the native weight files and, when they are several, their index.

    Args:
        files: the original weight files; may be wrapped to show progress.
        num_files: number of the files.
        moves: from `plan_moves`.
        folder: the folder of the native files.

    Raises:
        UserError: an original file is damaged.
    """
    weight_map: dict[str, str] = {}
    total_bytes = 0
    for number, file in enumerate(files, start=1):
        name = WEIGHTS if num_files == 1 else f"model-{number:05d}-of-{num_files:05d}.safetensors"
        written = _convert_file(file, moves, folder / name)
        weight_map |= dict.fromkeys(written, name)
        total_bytes += sum(written.values())
    if num_files > 1:
        index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _convert_file(file: WeightFile, moves: dict[str, Move], target: Path) -> dict[str, int]:
    """Write one native file, and return the size in bytes of every weight in it."""
    tensors: dict[str, torch.Tensor] = {}
    with opened(file.path) as source:
        for name in file.shapes:
            move = moves[name]
            tensors |= dict(zip(move.targets, move.split(source.get_tensor(name)), strict=True))
        save_file(tensors, target, metadata={"format": "pt"})
    return {name: tensor.nbytes for name, tensor in tensors.items()}
