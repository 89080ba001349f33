"""Search guided by a set head: its weights come from the prompts that the search has read anyway."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.identifier_files import read_identifiers
from semcore.data.items_and_queries import read_items
from semcore.data.run_folder import RunFolder
from semcore.models.inference import load_for_inference
from semcore.models.session import ModelSession, load_session
from semcore.models.set_head import item_scores, new_set_head, padded_units, set_vocabulary, unit_numbers
from semcore.models.set_inference import set_weights
from semcore.retrieval.corpus import Corpus, build_corpus
from semcore.retrieval.generator import generate, query_inputs
from semcore.retrieval.guides import GuideSettings
from semcore.retrieval.open_guide import GuideMaker
from semcore.runtime.errors import UserError
from tests.run_fixtures import SearchableRun

QUERIES = ["a red star", "a blue circle above a square"]


@pytest.fixture
def session(finished_training: SearchableRun) -> ModelSession:
    model = load_for_inference(finished_training.run / "identifier_model", dtype="float32", device="cpu")
    return load_session(model, load_dataset(finished_training.data), None)


def corpus_of(session: ModelSession, run: SearchableRun) -> Corpus:
    items = read_items(RunFolder(run.run), load_dataset(run.data), Direction.T2I)
    return build_corpus(session, Direction.T2I, items)


def maker(session: ModelSession, run: SearchableRun, **settings: Any) -> GuideMaker:
    none: Any = None
    return GuideMaker(GuideSettings(kind="set", **settings), RunFolder(run.run), session, none)


@pytest.mark.parametrize("pool", ["max", "last"])
def test_what_the_guide_adds_is_the_heads_score_of_the_item(
    pool: Any, session: ModelSession, finished_training: SearchableRun
) -> None:
    """Beside the head run over the prompts again; items have unequally many units, so the mean counts."""
    rows = read_identifiers(RunFolder(finished_training.run) / "identifiers", "t2i")
    head = new_set_head(session.checkpoint.model, session.checkpoint.tokenizer, set_vocabulary(rows), pool)
    with torch.no_grad():
        head.linear.weight.normal_(generator=torch.Generator().manual_seed(0))
    corpus = corpus_of(session, finished_training)
    guide = maker(session, finished_training).make(Direction.T2I, corpus)
    found = generate(
        session, Direction.T2I, QUERIES, corpus, num_beams=60, guide=lambda queries: guide.bonus(queries, 0.5)
    )
    plain = generate(session, Direction.T2I, QUERIES, corpus, num_beams=60)
    numbers = {row["item_id"]: unit_numbers(rows, head.units)[row["identifier"]] for row in rows}
    weights = set_weights(session.checkpoint.model, query_inputs(session, Direction.T2I, QUERIES))
    sums = item_scores(weights, padded_units(numbers[item_id] for item_id in corpus.items))
    means = sums / torch.tensor([len(numbers[item_id]) for item_id in corpus.items])
    assert means.std() > 0.1
    for query in range(len(QUERIES)):
        expected = dict(zip(corpus.items, (0.5 * means[query]).tolist(), strict=True))
        scores = {hit.item_id: hit.score for hit in plain[query]}
        assert {hit.item_id for hit in found[query]} == set(corpus.items)
        for hit in found[query]:
            assert hit.guide == pytest.approx(expected[hit.item_id], abs=1e-4)
            assert hit.score == pytest.approx(scores[hit.item_id] + expected[hit.item_id], abs=1e-3)


def test_what_a_set_head_cannot_do(session: ModelSession, finished_training: SearchableRun) -> None:
    corpus = corpus_of(session, finished_training)
    with pytest.raises(UserError) as raised:
        maker(session, finished_training).make(Direction.T2I, corpus)
    assert str(raised.value) == (
        f"the guide set reads a set head, and {session.checkpoint.path} has none; train it with "
        "--losses.set-weight 0.5, or choose --guide.kind words"
    )
    new_set_head(session.checkpoint.model, session.checkpoint.tokenizer, ["<|cluster_0|>", "dog"])
    with pytest.raises(UserError, match="--guide.mode tokens adds up weights of tokens, and 1 of the 2 units of these"):
        maker(session, finished_training, mode="tokens").make(Direction.T2I, corpus)
