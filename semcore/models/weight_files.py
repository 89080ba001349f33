"""Weight files of a checkpoint folder and their tensors, read from the headers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class WeightFile:
    """One weight file: the shape and the safetensors dtype ("BF16", say) of every tensor in it."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]


def list_weights(folder: Path) -> list[WeightFile]:
    """Return the weight files of a checkpoint, in order; only their headers are read.

    Raises:
        UserError: a file is missing, damaged or truncated.
    """
    paths = _weight_paths(folder)
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder} is not whole: {len(missing)} of {len(paths)} weight files are missing, {missing[0]} the first; "
            "download it again"
        )
    return [_read_header(path) for path in paths]


def _weight_paths(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        weight_map = read_json(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise UserError(f"{folder / INDEX} names no weights; download it again")
        return [folder / name for name in sorted(set(weight_map.values()))]
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} has no weights: neither {WEIGHTS} nor {INDEX}; download it again")
    return [folder / WEIGHTS]


def _read_header(path: Path) -> WeightFile:
    with opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
    return WeightFile(path, shapes, {name: part.get_dtype() for name, part in slices.items()})


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a weight file for reading single tensors; they are views of the file, not copies.

    Raises:
        UserError: it is damaged or truncated.
    """
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"the weight file {path} is damaged or cut short ({error}); download it again") from None
    with file:
        yield file
