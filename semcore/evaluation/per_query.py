"""Per-query file: each query with its relevant items, its hits, and the rank of the first relevant item.

A row of `per_query.jsonl`:

    {"query_id": "12_3", "query": "a red circle above ..." (or the image's file name), "right": ["12"],
     "generated": [{"item_id": "12", "identifier": "<|cluster_17|>circle", "score": -0.4}, ...],     at most 20
     "verified": [{"item_id": "12", "score": 3.1}, ...],                                             at most 10
     "rank_generated": 2, "rank_verified": 1}                                                        null: not found

Where a share of the identifiers' prior came off, it has "rank_generated_paper" too, the rank by the paper's score.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from semcore.evaluation.metrics import first_relevant_rank
from semcore.retrieval.hits import GeneratedHit
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_jsonl, write_jsonl
from semcore.runtime.typed_commands import evaluate_anew

NUM_GENERATED = 20
NUM_VERIFIED = 10
FALSE_NEGATIVES = "false_negatives.jsonl"
"""Beside the per-query file: the entries of `semcore.evaluation.false_negatives`, the most confident first."""

_KEYS = {"query_id", "query", "right", "generated", "verified", "rank_generated", "rank_verified"}


def per_query_rows(
    queries: Mapping[str, str],
    qrels: Mapping[str, Collection[str]],
    generated: Mapping[str, Sequence[GeneratedHit]],
    verified: Mapping[str, Sequence[tuple[str, float]]],
    paper: Mapping[str, Sequence[GeneratedHit]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield one row per judged query, in the order of `qrels`.

    Ranks are counted in the whole rankings; only the lists in the row are cut.

    Args:
        queries: The text of every query, or the file name of its image.
        qrels: The relevant items of every query.
        generated: The generator's ranking of every query, best first; a query may be absent.
        verified: (item id, score) after verification, best first; empty where nothing was verified.
        paper: The generator's ranking by the paper's score, where that is another one.
    """
    for query, right in qrels.items():
        candidates, judged = generated.get(query, ()), verified.get(query, ())
        by_paper = [hit.item_id for hit in paper.get(query, ())] if paper else []
        yield {
            "query_id": query,
            "query": queries[query],
            "right": sorted(right),
            "generated": [_as_row(hit) for hit in candidates[:NUM_GENERATED]],
            "verified": [{"item_id": item, "score": score} for item, score in judged[:NUM_VERIFIED]],
            "rank_generated": first_relevant_rank([hit.item_id for hit in candidates], right),
            "rank_verified": first_relevant_rank([item for item, _ in judged], right),
            **({"rank_generated_paper": first_relevant_rank(by_paper, right)} if paper else {}),
        }


def _as_row(hit: GeneratedHit) -> dict[str, Any]:
    """Return a hit as plain data; where no guide was, nothing is said of it."""
    return {key: value for key, value in hit._asdict().items() if value is not None}


def write_per_query(
    path: Path,
    queries: Mapping[str, str],
    qrels: Mapping[str, Collection[str]],
    generated: Mapping[str, Sequence[GeneratedHit]],
    verified: Mapping[str, Sequence[tuple[str, float]]],
    paper: Mapping[str, Sequence[GeneratedHit]] | None = None,
) -> None:
    """Write the rows of `per_query_rows` to `path`, atomically."""
    write_jsonl(path, per_query_rows(queries, qrels, generated, verified, paper))


def read_per_query(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a per-query file.

    Raises:
        UserError: The file is missing, is no JSON, or a row lacks a key.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; write it with `{evaluate_anew(path.parent.parent)}`")
    rows = list(read_jsonl(path))
    for number, row in enumerate(rows, start=1):
        if missing := sorted(_KEYS - row.keys()):
            raise UserError(
                f"{path}, line {number}: {missing[0]!r} is missing; "
                f"write it anew with `{evaluate_anew(path.parent.parent)}`"
            )
    return rows
