"""Queries of the training split with what a search finds for them, as rows to learn ranking on (AVG, section 3.2).

A query's right identifiers and those that the search found are branches of one row: its prompt is read once.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypedDict

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import draw_queries
from semcore.data.run_folder import RunFolder
from semcore.models.prompts import IMAGE, Prompts
from semcore.models.session import ModelSession
from semcore.models.tokenization import chat_prompt, expand_images, tokenize
from semcore.retrieval.batch import SplitKey, SplitView, WorkDir, generate_hits, read_split_views
from semcore.runtime.errors import UserError
from semcore.training.held_out import HeldOut
from semcore.training.identifier_pairs import AnswerTokens, Example
from semcore.training.image_inputs import Visuals
from semcore.training.objective import RankingLossName
from semcore.training.packing import merge, row_length
from semcore.training.schedule import PlannedRows, plan


class FoundRow(TypedDict):
    """A line of RUN/ranking/round-1/t2i.jsonl or i2t.jsonl: identifiers, those found in the search's order."""

    query_id: str
    query: str
    right: list[str]
    found: list[str]


class RankedQuery(NamedTuple):
    """A query with each candidate as an example, the right ones first."""

    examples: list[Example]
    num_right: int


def training_views(
    run: RunFolder, dataset: Dataset, directions: Sequence[Direction], held_out: HeldOut, limit: int | None, seed: int
) -> dict[Direction, SplitView]:
    """Return the training items of each direction, and the queries that were not held out.

    Args:
        run: holds the identifiers.
        dataset: holds the queries.
        directions: that are trained.
        held_out: queries that later stages mine with.
        limit: queries a direction, drawn at random; None for all.
        seed: of the draw.

    Raises:
        UserError: there is no such query.
    """
    views = {}
    for key, view in read_split_views(run, dataset, "train", directions=directions).items():
        left_out = view.queries.unanswerable.union(held_out.query_ids[key.direction])
        asked = view.queries.only(query for query in view.queries.relevant if query not in left_out)
        if asked.contents:
            views[key.direction] = SplitView(view.items, draw_queries(asked, limit, seed))
    if not views:
        raise UserError(f"no query of the training split of {dataset.folder} is left to rank with in {run.path}")
    return views


def find_candidates(
    session: ModelSession, views: Mapping[Direction, SplitView], work_dir: WorkDir, *, num_beams: int, batch_size: int
) -> dict[Direction, list[FoundRow]]:
    """Search each direction's training items with its queries.

    Args:
        session: the model so far.
        views: items and queries.
        work_dir: keeps finished chunks.
        num_beams: width of the search, and the most identifiers that are kept for a query.
        batch_size: queries searched at once.
    """
    found = {}
    for direction, view in views.items():
        hits = generate_hits(
            session, SplitKey("train", direction), view, work_dir, num_beams=num_beams, batch_size=batch_size,
            engine="semcore", whole_beam=True,
        )  # fmt: skip
        found[direction] = [
            _found_row(query, content, view, [hit.identifier for hit in hits[content]], num_beams)
            for query, content in view.queries.contents.items()
        ]
    return found


def _found_row(query: str, content: str, view: SplitView, found: Sequence[str], most: int) -> FoundRow:
    relevant = sorted(item_id for item_id in view.queries.relevant[query] if item_id in view.items)
    right = list(dict.fromkeys(text for item_id in relevant for text in view.items[item_id].identifiers))
    wrong = [identifier for identifier in dict.fromkeys(found) if identifier not in right]
    return {"query_id": query, "query": content, "right": right, "found": wrong[:most]}


def ranked_queries(
    tokenizer: Any, prompts: Prompts, direction: Direction, rows: Sequence[FoundRow], visuals: Visuals
) -> list[RankedQuery]:
    """Return each query with its candidates as examples; images that cannot be read are left out.

    Args:
        tokenizer: with the identifiers' tokens.
        prompts: `identify_t2i` and `identify_i2t` are used.
        direction: of the rows.
        rows: from `find_candidates`.
        visuals: the source of the images.
    """
    name, made = direction.identify_prompt, []
    turn = chat_prompt(tokenizer, prompts.render(name, query="", image=IMAGE))
    answers = AnswerTokens(tokenizer, expand_images(turn, [1]) if direction.queries_are_images else turn)
    for row in rows:
        images = tuple(direction.images_shown(row["query"], ()))
        if any(image_id not in visuals for image_id in images):
            continue
        text = chat_prompt(tokenizer, prompts.render(name, query=row["query"], image=IMAGE))
        prompt = tokenize(tokenizer, expand_images(text, [visuals.num_tokens(image_id) for image_id in images]))
        candidates = [Example(prompt, answers[identifier], images) for identifier in (*row["right"], *row["found"])]
        made.append(RankedQuery(candidates, len(row["right"])))
    return made


def plan_ranking_rows(
    queries: Sequence[RankedQuery],
    loss: RankingLossName,
    *,
    image_start_id: int,
    num_epochs: int,
    batch_size: int,
    max_steps: int | None,
    seed: int,
) -> PlannedRows:
    """Return the rows of a training, a query a row, in a new order every epoch; see `semcore.training.schedule.plan`.

    Args:
        queries: from `ranked_queries`.
        loss: for the hinge one of the found candidates is drawn, anew every epoch.
        image_start_id: the token before each image's tokens.
        num_epochs: passes over the queries.
        batch_size: queries a step, over all processes.
        max_steps: steps, at most.
        seed: of order and draw.
    """

    def one_epoch(rng: random.Random) -> list[RankedQuery]:
        order = rng.sample(queries, len(queries))
        return [_with_one(query, rng) for query in order] if loss == "hinge" else order

    planned = plan(
        one_epoch, num_epochs=num_epochs, batch_size=batch_size, max_steps=max_steps, seed=seed,
        length=lambda query: row_length(query.examples, image_start_id),
    )  # fmt: skip
    return PlannedRows(planned, lambda own: replace(merge(own.examples, image_start_id), num_right=own.num_right))


def _with_one(query: RankedQuery, rng: random.Random) -> RankedQuery:
    """Return a query with one of its found candidates."""
    right, found = query.examples[: query.num_right], query.examples[query.num_right :]
    return RankedQuery([*right, *rng.sample(found, min(1, len(found)))], query.num_right)


def found_stats(rows: Mapping[Direction, Sequence[FoundRow]]) -> dict[str, dict[str, float]]:
    """Return of each direction the number of queries, and of found identifiers that are not right, as a mean."""
    return {
        direction: {
            "num_queries": len(own),
            "mean_found": round(sum(len(row["found"]) for row in own) / max(1, len(own)), 2),
        }
        for direction, own in rows.items()
    }
