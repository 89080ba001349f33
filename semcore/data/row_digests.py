"""Digests of rows per split, which tell added rows from changed ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from semcore.data.dataset import Dataset
from semcore.data.identifier_files import read_identifiers
from semcore.data.run_folder import RunFolder


def digests(rows: Iterable[tuple[str, Any]], most: Mapping[str, int] | None = None) -> dict[str, dict[str, Any]]:
    """Return split -> number and sha256 of its rows, or of its first `most` ones."""
    counts: dict[str, int] = {}
    hashes: dict[str, Any] = {}
    for split, row in rows:
        if most is None or counts.get(split, 0) < most.get(split, 0):
            counts[split] = counts.get(split, 0) + 1
            digest = hashes.setdefault(split, hashlib.sha256())
            digest.update(json.dumps(row, ensure_ascii=True).encode() + b"\n")
    return {split: {"num_rows": counts[split], "sha256": digest.hexdigest()} for split, digest in hashes.items()}


def total(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one hash of the digests of all splits."""
    return hashlib.sha256("".join(str(digest["sha256"]) for digest in parts.values()).encode()).hexdigest()


def identifier_rows(run: RunFolder, direction: str) -> Iterator[tuple[str, Any]]:
    """Yield split and content of the rows of RUN/identifiers/<direction>.jsonl."""
    for row in read_identifiers(run / "identifiers", direction):
        content = [row["item_id"], row["global_id"], row["lexical_id"], row["identifier"]]
        yield row["split"], [*content, row["more"]] if "more" in row else content


def dataset_rows(dataset: Dataset) -> Iterator[tuple[str, Any]]:
    """Yield split and content of a dataset's images: ids and sentences, without their paths."""
    for record in dataset.images:
        sentences = [[sentence.sentence_id, sentence.text] for sentence in record.sentences]
        yield record.split, [record.image_id, sentences]
