"""Shards of named tensors, many per file, written once and read through memory maps.

FOLDER/store.json             the owner of the tensors
FOLDER/<shard>.safetensors    the tensors of a shard, concatenated along the first axis
FOLDER/<shard>.json           name -> rows, and the size of the file in bytes; written last

A file without its .json is ignored, so files that a kill or a full disk left incomplete are never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_bytes, write_json

STORE = "store.json"
ROWS = "rows"


@dataclass(frozen=True)
class Shard:
    """The content of a shard.

    Attributes:
        path: its file of tensors.
        rows: name -> its first row, and the row after its last.
        failed: name -> why it has no tensor.
    """

    path: Path
    rows: Mapping[str, tuple[int, int]]
    failed: Mapping[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.rows or name in self.failed

    def __iter__(self) -> Iterator[str]:
        return chain(self.rows, self.failed)

    def open(self) -> Any:
        """Map the file into memory; `[first:last]` of the result are rows.

        Raises:
            UserError: it is damaged.
        """
        try:
            rows = safe_open(self.path, framework="pt").get_slice(ROWS)
            num_rows = (rows.get_shape() or [0])[0]
        except (OSError, SafetensorError) as error:
            raise _damaged(self.path, str(error)) from None
        if any(last > num_rows for _, last in self.rows.values()):
            raise _damaged(self.path, f"it has {num_rows} rows, and more are said to be there")
        return rows


def claim(folder: Path, owner: Mapping[str, Any]) -> None:
    """Record the owner of a folder's shards.

    Args:
        folder: the store's folder; it may not exist yet.
        owner: names and texts that identify the owner.
    """
    check_owner(folder, owner)
    if not (folder / STORE).exists():
        write_json(folder / STORE, owner)


def check_owner(folder: Path, owner: Mapping[str, Any]) -> None:
    """Check the owner of a folder's shards.

    Raises:
        UserError: they belong to another owner.
    """
    if not (folder / STORE).exists():
        if any(folder.glob("*.safetensors")):
            raise UserError(
                f"{folder} does not say which checkpoint it belongs to; delete it to encode the images again"
            )
        return
    found = read_json(folder / STORE)
    for name, expected in owner.items():
        if found.get(name) != expected:
            raise UserError(
                f"{folder} belongs to another checkpoint: its {name} is {found.get(name)}, not {expected}; "
                "delete it to encode the images again"
            )


def write_shard(folder: Path, name: str, tensors: Mapping[str, torch.Tensor], failed: Mapping[str, str]) -> None:
    """Write a shard, then the file that marks it as complete.

    Args:
        folder: the store's folder.
        name: the shard's name.
        tensors: name -> (rows, ...), all of one dtype and, except for the rows, of one shape.
        failed: name -> why it has no tensor.

    Raises:
        UserError: no space left, or no permission to write there.
    """
    rows, first = {}, 0
    for key, tensor in tensors.items():
        rows[key] = (first, first + len(tensor))
        first += len(tensor)
    (folder / f"{name}.json").unlink(missing_ok=True)
    content = save({ROWS: torch.cat(list(tensors.values()))}) if tensors else b""
    write_bytes(folder / f"{name}.safetensors", content)
    write_json(folder / f"{name}.json", {"bytes": len(content), "rows": rows, "failed": dict(failed)})


def read_shard(folder: Path, name: str) -> Shard | None:
    """Return a shard, None where it is incomplete.

    Raises:
        UserError: it was complete, and its tensors are missing or truncated now.
    """
    if not (folder / f"{name}.json").exists():
        return None
    content, path = read_json(folder / f"{name}.json"), folder / f"{name}.safetensors"
    rows, failed = content.get("rows"), content.get("failed")
    if not _are_rows(rows) or not isinstance(failed, dict):
        raise _damaged(folder / f"{name}.json", "it does not say which rows are whose")
    found = path.stat().st_size if path.exists() else None
    if found != content.get("bytes"):
        state = "is missing" if found is None else f"has {found} bytes instead of {content.get('bytes')}"
        raise UserError(
            f"{path} {state}, with the features of {len(rows)} images; delete {folder} to encode the images again"
        )
    return Shard(path, {key: (first, last) for key, (first, last) in rows.items()}, failed)


def _are_rows(rows: Any) -> TypeGuard[dict[str, list[int]]]:
    """Return whether a value says name -> first row, and the row after the last."""
    return isinstance(rows, dict) and all(
        isinstance(own, list) and len(own) == 2 and all(type(row) is int for row in own) and 0 <= own[0] <= own[1]
        for own in rows.values()
    )


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged ({reason}); delete {path.parent} to have it written again")


def read_shards(folder: Path) -> dict[str, Shard]:
    """Return name -> shard of all complete shards; errors as `read_shard`."""
    names = sorted(path.stem for path in folder.glob("*.json") if path.name != STORE)
    shards = ((name, read_shard(folder, name)) for name in names)
    return {name: shard for name, shard in shards if shard is not None}
