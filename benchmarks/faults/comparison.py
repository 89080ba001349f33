"""Comparison of two folders file by file, and search for files that were left half-written.

Compared are bytes. What says how long something took or how much memory it held, or when it was, is dropped first:

*.json, *.jsonl     entries named as in `MEASURED`, at any depth; a run's manifest has the commit of the code, too
report.md, .html    figures of the table of stages, "12.3 s", "1.2 GB" and the like, and last columns named "seconds"
README.md           the lines of a model card that have seconds and memory
index/*             an index by what is found in it: one that has been changed has unused entries that a new one has not
safetensors         bytes, and where these differ the largest difference of a number, for trainings on several processes

Locks (`*.lock`) stay behind on purpose, and are not compared.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from semcore.decoding import IdentifierIndex
from semcore.retrieval.saved_index import INDEX, NOTE
from semcore.runtime.files import sha256_of

MEASURED = {
    "seconds", "peak_memory_bytes", "time", "date",
    "git",  # the commit of the code, which may change while a matrix runs
}  # fmt: skip
LOGS = {"logs"}
"""Folders of what commands print, of a study say: an interrupted one prints more."""
_FIGURES = re.compile(r"\d+(?:[.,]\d+)*(?:&nbsp;| )?(?:ms|s|min|h|kB|KB|MB|MiB|GB|GiB)\b")
_SECONDS = re.compile(
    r"^\|.*\| seconds \|\n(?:\|.*\n)*|<th>seconds</th></tr></thead>[^\0]*?</table>"
    r"|^## Seconds of .*\n\n(?:\|.*\n)*|<summary>Seconds of [^\0]*?</table>",
    re.MULTILINE,
)
_LAST_CELL = re.compile(r"[^|\n]*\|$|<td>[^<]*</td>(?=\s*</tr>)", re.MULTILINE)
_OF_CARDS = re.compile(r"^\| (?:seconds|peak\\_memory\\_bytes) \|.*$", re.MULTILINE)
NUM_LETTERS = 60
TOLERANCE = 1e-5
"""Of weights, where several processes add up in an order of their own, or DeepSpeed's Adam on CPUs has begun again."""


def differences(expected: Path, found: Path) -> list[str]:
    """Return what is missing, left behind or different in `found`, one sentence a file; paths are relative."""
    own, other = (set(files_below(folder)) for folder in (expected, found))
    return [
        *(f"missing: {name}" for name in sorted(own - other)),
        *(f"left behind: {name}" for name in sorted(other - own)),
        *(
            f"differs: {name}{reason}"
            for name in sorted(own & other)
            if (reason := difference(expected / name, found / name)) is not None
        ),
    ]


def files_below(folder: Path) -> Iterator[str]:
    """Yield the relative paths of all files, hidden ones and links too, but no locks and no logs."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in LOGS]
        for name in [*names, *(own for own in folders if (Path(place) / own).is_symlink())]:
            if not name.endswith(".lock"):
                yield (Path(place) / name).relative_to(folder).as_posix()


def difference(expected: Path, found: Path) -> str | None:
    """Return how two files differ, in some words that may be none; None where they say the same."""
    if expected.is_symlink() or found.is_symlink():
        return None if _same_target(expected, found) or _same(expected, found) else " (link)"
    if _same(expected, found):
        return None
    if expected.name == INDEX:
        own, other = (IdentifierIndex.load(path).item_sequences() for path in (expected, found))
        return None if own == other else " (other identifiers)"
    if expected.suffix == ".safetensors":
        return _largest(expected, found)
    own, other = (comparable(path) for path in (expected, found))
    return None if own == other else f" ({place_of_difference(own, other)})"


def place_of_difference(own: Any, other: Any, path: tuple[str, ...] = ()) -> str:
    """Return where two unequal values begin to differ: a path of JSON, or the number of a line, and what both say.

    >>> place_of_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]})
    'a.1.b: 2, 3'
    """
    pair: tuple[Any, ...] = tuple(
        value.decode(errors="replace") if isinstance(value, bytes) else value for value in (own, other)
    )
    if all(isinstance(value, str) for value in pair) and any("\n" in value for value in pair):
        pair = tuple(value.split("\n") for value in pair)
    if all(isinstance(value, list) for value in pair) and len(pair[0]) == len(pair[1]):
        pair = tuple({str(number): value for number, value in enumerate(values)} for values in pair)
    if all(isinstance(value, dict) for value in pair) and pair[0].keys() == pair[1].keys():
        key = next(key for key in pair[0] if pair[0][key] != pair[1][key])
        return place_of_difference(pair[0][key], pair[1][key], (*path, str(key)))
    return f"{'.'.join(path)}: {', '.join(str(value)[:NUM_LETTERS] for value in pair)}".removeprefix(": ")


def comparable(path: Path) -> Any:
    """Return a file's content without what was measured."""
    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            return without_measured(_checked(path, json.loads(content)))
        if path.suffix == ".jsonl":
            return [without_measured(json.loads(line)) for line in content.splitlines() if line.strip()]
    except ValueError:
        return content
    if path.name == "README.md":
        return _OF_CARDS.sub("", content.decode(errors="replace"))
    if path.name in ("report.md", "report.html", "study.md"):
        text = _SECONDS.sub(lambda table: _LAST_CELL.sub("_", table[0]), content.decode(errors="replace"))
        return _FIGURES.sub("_", text)
    return content


def _checked(path: Path, data: Any) -> Any:
    """Put, in the record of an index, whether the hash is right in place of the hash."""
    if path.name != NOTE or not isinstance(data, dict):
        return data
    return {**data, "sha256": data.get("sha256") == sha256_of(path.parent / INDEX)}


def without_measured(value: Any) -> Any:
    """Return JSON data without the entries that say how long something took, or when it was.

    >>> without_measured({"loss": 1, "seconds": 2, "stages": [{"seconds": 3}]})
    {'loss': 1, 'stages': [{}]}
    """
    if isinstance(value, dict):
        return {key: without_measured(inner) for key, inner in value.items() if key not in MEASURED}
    return [without_measured(inner) for inner in value] if isinstance(value, list) else value


def half_written(folder: Path) -> list[str]:
    """Return the files under their final names that cannot be read to their end; hidden ones are work in progress."""
    return [
        name
        for name in files_below(folder)
        if not any(part.startswith(".") for part in name.split("/")) and not _is_whole(folder / name)
    ]


def _is_whole(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".jsonl":
            for line in path.read_bytes().splitlines():
                json.loads(line)
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as handle:
                handle.keys()
    except (ValueError, OSError, SafetensorError):
        return path.is_symlink() and not path.exists()
    return True


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _same_target(one: Path, other: Path) -> bool:
    """Return whether two links lead to the same place, or by the same way from where they are."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return one.is_symlink() and other.is_symlink() and os.readlink(one) == os.readlink(other)


def _largest(expected: Path, found: Path) -> str | None:
    """Return the largest difference of a weight in words; None where it is within `TOLERANCE`."""
    tensors = []
    for path in (expected, found):
        with safe_open(path, framework="pt") as handle:
            names = list(handle.keys())
            tensors.append({name: handle.get_tensor(name).to(torch.float64).numpy() for name in names})
    if {name: own.shape for name, own in tensors[0].items()} != {name: own.shape for name, own in tensors[1].items()}:
        return " (other tensors)"
    largest = max(float(np.abs(own - tensors[1][name]).max(initial=0.0)) for name, own in tensors[0].items())
    return None if largest <= TOLERANCE else f" (numbers by up to {largest:.1e})"
