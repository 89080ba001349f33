"""TREC run and qrels files, which trec_eval, ir-measures and ranx read.

trec_eval reads scores as 32-bit floats, ignores the rank column and breaks ties by item id. Scores are therefore
written so that they fall strictly even after that rounding: every tool reads the same order.
"""

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np

from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text
from semcore.runtime.text_files import read_text
from semcore.runtime.typed_commands import evaluate_anew

ScoredRun = dict[str, list[tuple[str, float]]]
"""query_id -> (item id, score), best first."""


def write_run(path: Path, run: Mapping[str, Sequence[tuple[str, float]]], tag: str = "semcore") -> None:
    """Write a run file; scores are lowered just enough to keep the given order.

    Args:
        path: The file, replaced atomically.
        run: (item id, score) of every query, best first.
        tag: The name of the run, its last column.

    Raises:
        UserError: An id is empty or has white space in it.
        ValueError: A score is not finite.
    """
    with atomic_text(path) as handle:
        handle.writelines(_run_lines(run, tag))


def read_run(path: Path) -> ScoredRun:
    """Read a run file in trec_eval's order: by falling score, equal ones by item id from last to first.

    Raises:
        UserError: The file is missing or a line is no line of a run.
    """
    run: ScoredRun = {}
    for hit in _records(path, ir_measures.read_trec_run, "query Q0 item rank score tag"):
        run.setdefault(hit.query_id, []).append((hit.doc_id, hit.score))
    return {query: sorted(hits, key=lambda hit: (hit[1], hit[0]), reverse=True) for query, hits in run.items()}


def rankings(run: Mapping[str, Sequence[tuple[str, float]]]) -> dict[str, list[str]]:
    """Return query_id -> item ids, best first, without scores."""
    return {query: [item for item, _ in hits] for query, hits in run.items()}


def write_qrels(path: Path, qrels: Mapping[str, Collection[str]]) -> None:
    """Write the relevant items of every query, sorted within a query.

    Raises:
        UserError: An id is empty or has white space in it.
    """
    lines = (f"{_safe(query)} 0 {_safe(item)} 1\n" for query, right in qrels.items() for item in sorted(right))
    with atomic_text(path) as handle:
        handle.writelines(lines)


def read_qrels(path: Path) -> dict[str, set[str]]:
    """Read the relevant items of every query; items judged 0 or less are left out.

    Raises:
        UserError: The file is missing or a line is no line of a qrels file.
    """
    qrels: dict[str, set[str]] = {}
    for judged in _records(path, ir_measures.read_trec_qrels, "query 0 item relevance"):
        if judged.relevance > 0:
            qrels.setdefault(judged.query_id, set()).add(judged.doc_id)
    return qrels


def strictly_decreasing(scores: Iterable[float]) -> list[np.float32]:
    """Lower scores just enough that they fall strictly in 32 bits, (scores,); scores that already do are kept.

    >>> [str(score) for score in strictly_decreasing([-0.5, -0.5, -0.25, -2.0])]
    ['-0.5', '-0.50000006', '-0.5000001', '-2.0']

    Raises:
        ValueError: A score is not finite.
    """
    result = []
    bound = np.float32(np.inf)
    for score in scores:
        if not abs(score) <= _LARGEST:  # NaN compares as false
            raise ValueError(f"the score {score} cannot be written to a run file")
        bound = min(np.float32(score), np.nextafter(bound, np.float32(-np.inf)))
        result.append(bound)
    return result


_LARGEST = float(np.finfo(np.float32).max)


def _run_lines(run: Mapping[str, Sequence[tuple[str, float]]], tag: str) -> Iterator[str]:
    for query, hits in run.items():
        scores = strictly_decreasing(score for _, score in hits)
        for rank, ((item, _), score) in enumerate(zip(hits, scores, strict=True), start=1):
            yield f"{_safe(query)} Q0 {_safe(item)} {rank} {score} {_safe(tag)}\n"


def _safe(identity: str) -> str:
    if not identity or any(character.isspace() for character in identity):
        raise UserError(
            f"the id {identity!r} is empty or has white space in it, which separates the columns of a TREC file; "
            "rename it in metadata.jsonl"
        )
    return identity


def _records(path: Path, read: Callable[[io.StringIO], Iterable[Any]], columns: str) -> Iterator[Any]:
    """Yield what ir-measures reads, line by line, so that a broken line can be named."""
    again = f"write it anew with `{evaluate_anew(path.parent.parent)}`"
    try:
        lines = read_text(path).split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; {again}") from None
    for number, line in enumerate(lines, start=1):
        try:
            yield from read(io.StringIO(line))
        except ValueError:
            raise UserError(f"{path}, line {number}: {line[:80]!r} is not {columns!r}; {again}") from None
