"""Candidates of both sides, beside a search so wide that it finds and scores every item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Queries, read_items
from semcore.data.run_folder import RunFolder
from semcore.evaluation.fused_candidates import found_by
from semcore.models.inference import load_for_inference
from semcore.models.session import ModelSession, load_session
from semcore.retrieval.batch import SplitView
from semcore.retrieval.candidates import (
    Candidate,
    CandidateSettings,
    DenseSide,
    Search,
    cut,
    find_candidates,
    shortlist_of,
)
from semcore.retrieval.corpus import Corpus, build_corpus
from semcore.retrieval.dense import DenseEncoder
from semcore.retrieval.generator import GuideOf, generate
from semcore.retrieval.guides import item_guide
from semcore.retrieval.hits import without_prior
from semcore.verification import Fusion
from tests.run_fixtures import SearchableRun

QUERIES = ["a red star", "a blue circle above a square", "two stars"]


@pytest.fixture(scope="module")
def session(finished_training: SearchableRun) -> ModelSession:
    model = load_for_inference(finished_training.run / "identifier_model", dtype="float32", device="cpu")
    return load_session(model, load_dataset(finished_training.data), None)


@pytest.fixture(scope="module")
def corpus(session: ModelSession, finished_training: SearchableRun) -> Corpus:
    dataset = load_dataset(finished_training.data)
    return build_corpus(session, Direction.T2I, read_items(RunFolder(finished_training.run), dataset, Direction.T2I))


def dense_side(corpus: Corpus) -> DenseSide:
    """Return random vectors of items and queries."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((len(corpus.items), 6)).astype(np.float32)
    asked = dict(zip(QUERIES, generator.standard_normal((3, 6)).astype(np.float32), strict=True))
    encoder = DenseEncoder(lambda texts: np.stack([asked[text] for text in texts]), lambda ids: vectors)
    return DenseSide(encoder, list(corpus.items), vectors, corpus.index.item_sequences())


def random_guide(corpus: Corpus) -> GuideOf:
    scores = np.random.default_rng(1).standard_normal((3, len(corpus.items)))

    def score(queries: Sequence[str]) -> np.ndarray:
        return np.stack([scores[QUERIES.index(query)] for query in queries])

    guide = item_guide("words", corpus.index, list(corpus.items.values()), score)
    return lambda queries: guide.bonus(queries, 2.0)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("source", ["both", "dense"])
def test_every_candidate_has_the_scores_that_a_search_of_all_items_gives(
    source: str, guided: bool, several: bool, session: ModelSession, corpus: Corpus
) -> None:
    """Where items have several identifiers, what only vectors found has the sum of their probabilities."""
    if several:
        items = [replace(item, more=(f"{item.identifier} red",)) for item in corpus.items.values()]
        corpus = build_corpus(session, Direction.T2I, items)
    guide, side = random_guide(corpus) if guided else None, dense_side(corpus)
    priors = {text: -float(len(text)) for item in corpus.items.values() for text in item.identifiers}
    shares = dict(zip(QUERIES, (0.0, 0.3, 1.0), strict=True))

    def hits(num_beams: int) -> dict[str, list]:
        found = generate(session, Direction.T2I, QUERIES, corpus, num_beams=num_beams, guide=guide, whole_beam=True)
        return {
            query: without_prior(own, priors, shares[query], None if num_beams > 3 else 3)
            for query, own in zip(QUERIES, found, strict=True)
        }

    everything, narrow = hits(120), hits(3)
    assert {len(own) for own in everything.values()} == {len(corpus.items)}
    search = Search(session, Direction.T2I, corpus, guide, priors, batch_size=2)
    settings = CandidateSettings(source, num_dense=4)  # type: ignore[arg-type]
    found = find_candidates(search, side, settings, narrow, shares)
    for query, own in zip(QUERIES, found, strict=True):
        exact = {hit.item_id: hit for hit in everything[query]}
        cosines = dict(zip(side.item_ids, (side.vectors @ side.encoder.texts([query])[0]).tolist(), strict=True))
        nearest = sorted(cosines, key=lambda item_id: -cosines[item_id])[:4]
        generated = [hit.item_id for hit in narrow[query]]
        new = [item_id for item_id in nearest if item_id not in generated]
        assert [each.item_id for each in own] == (nearest if source == "dense" else [*generated, *new])
        for each in own:
            hit = exact[each.item_id]
            if not (several and each.generated):  # a narrow search may have found one of the identifiers alone
                assert each.score == pytest.approx(hit.score - (hit.guide or 0.0), abs=1e-3)
            assert each.guide == (pytest.approx(hit.guide, abs=1e-3) if guided else None)
            assert each.cosine == pytest.approx(cosines[each.item_id], abs=1e-5)
            assert (each.generated, each.dense) == (each.item_id in generated, each.item_id in nearest)


def test_a_shortlist_has_the_best_by_the_fused_scores(corpus: Corpus) -> None:
    ids = list(corpus.items)[:4]
    rows = [(-1.0, 0.5, 0.1), (-2.0, 0.0, 0.9), (-3.0, 1.0, 0.8), (-1.5, 0.25, 0.1)]
    candidates = [Candidate(own, *scores, True, False) for own, scores in zip(ids, rows, strict=True)]
    whole = shortlist_of("q", candidates, corpus.items)
    assert whole.further == {"dense": (0.1, 0.9, 0.8, 0.1), "guide": (0.5, 0.0, 1.0, 0.25)}
    fusion = Fusion(0.5, 0.5, further={"dense": 2.0, "guide": 1.0})
    fused = [0.5 * score + 2.0 * cosine + guide for score, guide, cosine in rows]
    best = sorted(range(4), key=lambda place: -fused[place])[:3]
    own = cut(whole, fusion, 3)
    assert [item.item_id for item in own.items] == [ids[place] for place in best]
    assert own.generator == tuple(rows[place][0] for place in best)
    assert own.further["guide"] == tuple(rows[place][1] for place in best)


def test_which_side_found_the_relevant_item() -> None:
    queries = Queries(
        {"q1": "one", "q2": "two", "q3": "one"}, {}, {"q1": {"a"}, "q2": {"b"}, "q3": {"c", "d"}, "q4": {"a"}}
    )
    found = {
        "one": [Candidate("a", 0, None, 0, True, False), Candidate("c", 0, None, 0, True, False),
                Candidate("d", 0, None, 0, False, True)],
        "two": [Candidate("b", 0, None, 0, False, True)],
    }  # fmt: skip
    view = SplitView({}, queries)
    assert found_by(view, [found[query] for query in view.unique_queries]) == {
        "both": 25.0, "generator_only": 25.0, "dense_only": 25.0, "neither": 25.0,
    }  # fmt: skip


def test_an_encoder_is_opened_by_name(tmp_path: Path, finished_training: SearchableRun) -> None:
    from semcore.retrieval.dense import open_dense
    from semcore.runtime.errors import UserError

    run = RunFolder(tmp_path / "run")
    with pytest.raises(UserError, match=r"sentence-encoder reads captions, and .* has none; make them with `"):
        open_dense("sentence-encoder", run, load_dataset(finished_training.data))
