"""Prefix retention: at which depth the beams lose the identifiers of relevant items, over a sample of queries.

A query keeps its answer as long as a prefix of any of its relevant items' identifiers is among the beams. What is kept
to the end and still not found was outranked: that is the model's doing, what is lost before is the search's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from semcore.data.items_and_queries import draw_queries
from semcore.decoding import constrained_beam_search
from semcore.decoding.bonus import added
from semcore.decoding.prefix_retention import Retention, RetentionWatch
from semcore.decoding.prior_correction import Correction
from semcore.models.session import ModelSession
from semcore.retrieval.batch import QUERIES_PER_CHUNK, SplitKey, SplitView, WorkDir
from semcore.retrieval.corpus import Corpus, identifier_tokens
from semcore.retrieval.explanation_steps import token_parts
from semcore.retrieval.generator import GuideOf, query_inputs

Course = list[list[Any]]
"""Of each relevant identifier of a query: its number of tokens, where it was lost or None, whether it was found, and
the word of every token."""


class _Task(NamedTuple):
    """A query, and the identifiers of its relevant items."""

    content: str
    targets: list[str]


def follow_queries(
    session: ModelSession,
    key: SplitKey,
    view: SplitView,
    corpus: Corpus,
    work_dir: WorkDir,
    *,
    num_queries: int,
    num_beams: int,
    batch_size: int,
    correction: Correction | None = None,
    guide: GuideOf | None = None,
) -> dict[str, Course]:
    """Search a sample of queries and follow their relevant items; return query -> the course of each identifier.

    Args:
        session: the generator.
        key: the view's key.
        view: items and queries.
        corpus: the view's items, indexed.
        work_dir: keeps finished chunks.
        num_queries: drawn at random where there are more; those with no relevant item in the corpus are left out.
        num_beams: width of the beam.
        batch_size: queries searched at once.
        correction: what comes off in the search; None where nothing does.
        guide: what guides it; None where nothing does.
    """
    drawn = draw_queries(view.queries, num_queries).contents.items()
    all_tasks = [
        _Task(
            content,
            sorted(
                {
                    text
                    for item in view.queries.relevant[query] & view.items.keys()
                    for text in view.items[item].identifiers
                }
            ),
        )
        for query, content in drawn
    ]
    tasks = sorted((task for task in all_tasks if task.targets), key=lambda task: (len(task.content), task.content))
    if key.direction.queries_are_images:
        session.features.add([task.content for task in tasks], progress=work_dir.progress)

    def work(chunk: list[_Task]) -> list[Any]:
        rows: list[Course] = []
        for start in range(0, len(chunk), batch_size):
            batch = chunk[start : start + batch_size]
            rows += _follow(session, key, corpus, batch, num_beams, correction, guide)
        return rows

    rows = work_dir.run(f"retention {key.direction} {key.split}", tasks, QUERIES_PER_CHUNK, work, "query")
    return {task.content: row for task, row in zip(tasks, rows, strict=True)}


def _follow(
    session: ModelSession,
    key: SplitKey,
    corpus: Corpus,
    batch: Sequence[_Task],
    num_beams: int,
    correction: Correction | None,
    guide: GuideOf | None,
) -> list[Course]:
    identifiers = dict.fromkeys(text for task in batch for text in task.targets)
    tokens = {text: identifier_tokens(session, key.direction, text) for text in identifiers}
    watch = RetentionWatch(corpus.index, [[tokens[text] for text in task.targets] for task in batch])
    queries = [task.content for task in batch]
    inputs = query_inputs(session, key.direction, queries)
    bonus = correction if guide is None else added(correction, guide(queries))
    model = session.checkpoint.model
    found = constrained_beam_search(
        model, inputs, corpus.index, num_beams=num_beams, bonus=bonus, watch=watch
    )  # fmt: skip
    tokenizer = session.checkpoint.tokenizer
    words = {text: words_of(token_parts(tokenizer, text, own)) for text, own in tokens.items()}
    return [
        [
            [each.num_tokens, each.lost_at, each.found, words[text]]
            for each, text in zip(retentions, task.targets, strict=True)
        ]
        for retentions, task in zip(watch.results(found), batch, strict=True)
    ]


def words_of(parts: Sequence[tuple[str, str | None]]) -> list[str]:
    """Return the name of the word that each token belongs to: "cluster", "keyword 1", ..., "end".

    >>> words_of([("cluster", None), ("keyword", "dog"), ("keyword", "dog"), ("keyword", "ball"), ("end", None)])
    ['cluster', 'keyword 1', 'keyword 1', 'keyword 2', 'end']
    """
    names, before, number = [], None, 0
    for part, keyword in parts:
        if part == "keyword":
            number += keyword != before or number == 0
            before = keyword
        names.append(f"keyword {number}" if part == "keyword" else part)
    return names


def summarise_retention(courses: Mapping[str, Course], num_beams: int) -> dict[str, Any]:
    """Return the share of queries whose answer the beams still hold, by depth, in percent.

    Args:
        courses: from `follow_queries`.
        num_beams: width of the beam.

    Returns:
        "num_queries", "num_beams"; "by_depth", for each number of tokens "depth" and "retained"; "found"; "outranked",
        kept to the end and behind so many others as there are beams; "lost_at_word", the word of the identifier ->
        percent of queries that lost their answer there. Of several relevant items the one that is kept longest counts.
    """
    if not courses:
        return {}
    queries = [[Retention(row[0], row[1], row[2], ()) for row in own] for own in courses.values()]
    longest = max(retention.num_tokens for own in queries for retention in own)
    lost = Counter(word for own in courses.values() if (word := _lost_at_word(own)))
    share = 100 / len(queries)
    found = sum(any(each.found for each in own) for own in queries)
    return {
        "num_queries": len(queries),
        "num_beams": num_beams,
        "by_depth": [
            {"depth": depth, "retained": share * sum(any(each.retained(depth) for each in own) for own in queries)}
            for depth in range(1, longest + 1)
        ],
        "found": share * found,
        "outranked": share * (len(queries) - found - lost.total()),
        "lost_at_word": {word: share * count for word, count in sorted(lost.items(), key=_word_order)},
    }


def _lost_at_word(course: Course) -> str | None:
    """Return the word at which the identifier that was kept longest was lost; None where one was not lost."""
    if any(lost_at is None for _, lost_at, _, _ in course):
        return None
    _, lost_at, _, words = max(course, key=lambda row: row[1])
    return words[lost_at - 1]


def _word_order(word_and_count: tuple[str, int]) -> tuple[int, int]:
    word = word_and_count[0]
    return ("cluster", "keyword", "end").index(word.split()[0]), int(word.split()[-1]) if " " in word else 0
