"""Exhaustive search beside the beam search, on a sample of queries: what a wider beam could gain, and what not.

The exhaustive search scores every identifier exactly. A relevant item that it has among the first ten and the beam
search has not is a search error; one that it does not have either is a model error (Stahlberg & Byrne, 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semcore.data.items_and_queries import draw_queries
from semcore.decoding import exhaustive_search
from semcore.evaluation.metrics import CUTOFFS, first_relevant_rank
from semcore.models.session import ModelSession
from semcore.retrieval.batch import SplitKey, SplitView, WorkDir
from semcore.retrieval.corpus import Corpus
from semcore.retrieval.generator import query_inputs
from semcore.retrieval.hits import GeneratedHit, merged

MOST_IDENTIFIERS = 5_000
"""More are not searched exhaustively unless that is asked for."""
MOST_QUERIES, FEWEST_QUERIES = 50, 10
"""Queries by default, between these: as many as score `DEFAULT_PAIRS` identifiers in all."""
DEFAULT_PAIRS = 25_000  # ours: some twenty seconds of a CPU with a small model
QUERIES_PER_CHUNK = 4
DEPTH = 50
"""Items kept of each exhaustive ranking."""


def num_queries_for(wanted: int | None, view: SplitView) -> int:
    """Return how many queries are searched exhaustively: as many as are wanted, by default fewer in a larger corpus."""
    if wanted is not None:
        return wanted
    identifiers: set[str] = set()
    for item in view.items.values():
        identifiers.update(item.identifiers)
        if len(identifiers) > MOST_IDENTIFIERS:
            return 0
    return max(FEWEST_QUERIES, min(MOST_QUERIES, DEFAULT_PAIRS // len(identifiers)))


def search_exhaustively(
    session: ModelSession,
    key: SplitKey,
    view: SplitView,
    corpus: Corpus,
    work_dir: WorkDir,
    *,
    num_queries: int,
    log_priors: Mapping[str, float],
    weight: float,
) -> dict[str, list[GeneratedHit]]:
    """Return query -> its `DEPTH` best items by exact score, for a sample of queries.

    Args:
        session: the generator.
        key: the view's key.
        view: items and queries.
        corpus: the view's items, indexed.
        work_dir: keeps finished chunks.
        num_queries: drawn at random where there are more.
        log_priors: identifier -> log p(identifier); may be empty where the weight is 0.
        weight: how much of it comes off.
    """
    contents = sorted(set(draw_queries(view.queries, num_queries).contents.values()))
    if key.direction.queries_are_images:
        session.features.add(contents, progress=work_dir.progress)
    texts = _texts_of_leaves(corpus)
    priors = {leaf: log_priors[text] for leaf, text in texts.items() if weight}

    def work(chunk: list[str]) -> list[Any]:
        result = exhaustive_search(
            session.checkpoint.model, query_inputs(session, key.direction, chunk), corpus.index
        )  # fmt: skip
        rows = []
        for leaves, scores in zip(result.leaves, result.scores.tolist(), strict=True):
            scored = [
                (score - weight * priors.get(leaf, 0.0), leaf) for leaf, score in zip(leaves, scores, strict=True)
            ]
            best = sorted(scored, key=lambda pair: -pair[0])[:DEPTH]
            hits = [
                GeneratedHit(item_id, texts[leaf], score)
                for score, leaf in best
                for item_id in corpus.index.items_of_leaf(leaf)
            ]
            rows.append(merged(hits)[:DEPTH])
        return rows

    rows = work_dir.run(f"exhaustive {key.direction} {key.split}", contents, QUERIES_PER_CHUNK, work, "query")
    return {content: [GeneratedHit(*hit) for hit in own] for content, own in zip(contents, rows, strict=True)}


def _texts_of_leaves(corpus: Corpus) -> dict[int, str]:
    """Return leaf -> the identifier that it is."""
    index = corpus.index
    return {index.leaf(own): corpus.text_of(own, index.items(own)[0]) for own in index.sequences()}


def _num_identifiers(view: SplitView) -> int:
    return len({text for item in view.items.values() for text in item.identifiers})


def compare_searches(
    view: SplitView,
    exhaustive: Mapping[str, Sequence[GeneratedHit]],
    beam: Mapping[str, Sequence[GeneratedHit]],
    num_beams: int,
) -> dict[str, Any]:
    """Return the recalls of both searches on the same queries, and the two kinds of error, in percent.

    Args:
        view: items and queries.
        exhaustive: query -> its ranking by the exact search.
        beam: query -> its ranking by the beam search.
        num_beams: its width.

    Returns:
        "num_queries", "num_beams", "num_identifiers"; "exhaustive" and "beam", each R@1, R@5, R@10; "same_first", where
        both have the same first item; "search_errors" and "model_errors".
    """
    asked = [
        (content, view.queries.relevant[query])
        for query, content in view.queries.contents.items()
        if content in exhaustive
    ]
    if not asked:
        return {}
    ranks = [
        tuple(first_relevant_rank([hit.item_id for hit in own[content]], right) for own in (exhaustive, beam))
        for content, right in asked
    ]
    share, last = 100 / len(asked), max(CUTOFFS)
    among = [(exact is not None and exact <= last, found is not None and found <= last) for exact, found in ranks]
    first = [exhaustive[content][0].item_id == _first(beam[content]) for content, _ in asked]
    return {
        "num_queries": len(asked),
        "num_beams": num_beams,
        "num_identifiers": _num_identifiers(view),
        **{
            name: {
                f"R@{cutoff}": share * sum(own[place] is not None and own[place] <= cutoff for own in ranks)  # type: ignore[operator]
                for cutoff in CUTOFFS
            }
            for place, name in enumerate(("exhaustive", "beam"))
        },
        "same_first": share * sum(first),
        "search_errors": share * sum(exact and not found for exact, found in among),
        "model_errors": share * sum(not exact and not found for exact, found in among),
    }


def _first(hits: Sequence[GeneratedHit]) -> str | None:
    return hits[0].item_id if hits else None
