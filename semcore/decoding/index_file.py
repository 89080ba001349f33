"""Index file: one safetensors file, written atomically and memory-mapped when read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_path

FORMAT = "semcore-identifier-index-1"


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write named arrays (of any shape), atomically; the same ones always make the same bytes.

    Raises:
        UserError: no space left, or no permission to write there.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata={"format": FORMAT, **metadata})
        _sort_metadata(temporary)


def load_arrays(path: Path, names: tuple[str, ...]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Map the named arrays (of any shape) of a file into memory; pages are read on access, and changes stay private.

    Raises:
        UserError: the file is missing, truncated, or not an index.
    """
    if not path.is_file():
        raise UserError(f"there is no index file {path}: build the index again and save it there")
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            if metadata.get("format") != FORMAT or not set(names) <= set(handle.keys()):
                raise UserError(f"{path} holds no identifier index of this version: build the index again")
            return {name: handle.get_tensor(name).numpy() for name in names}, metadata
    except (SafetensorError, ValueError, TypeError) as error:  # or of a type that numpy has not
        raise UserError(f"{path} is cut short or no index file ({error}): build the index again") from None


def _sort_metadata(path: Path) -> None:
    """Sort the metadata in a file's header, which safetensors writes in an order that every process draws anew."""
    with path.open("r+b") as handle:
        size = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        handle.seek(8)
        handle.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size))
