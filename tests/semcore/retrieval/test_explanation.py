"""Explanations of hits and of items that a search lost."""

import copy
import json
import math
import pickle
from dataclasses import asdict, replace

import pytest
import torch

from semcore import Retriever
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.decoding import exhaustive_search
from semcore.retrieval import explanation as explanation_module
from semcore.retrieval.corpus import identifier_tokens
from semcore.retrieval.explanation_text import render_explanation
from semcore.retrieval.explanation_words import cluster_of, keywords_of, says
from semcore.retrieval.generator import query_inputs
from semcore.retrieval.search_notes import no_match_note
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json
from semcore.verification import Fusion, choose
from semcore.verification.calibration import Calibration
from semcore.verification.no_match_rule import NoMatchRule
from semcore.verification.score_fusion import FusionSettings, write_fusion_settings

CPU = {"dtype": "float32", "device": "cpu"}
QUERY = "a red circle"


@pytest.fixture(scope="module")
def retriever(finished_training):
    return Retriever.from_run(finished_training.run, **CPU)


def exact_scores(retriever, direction, query, session=None):
    """Return item id -> log p of its identifier, by an exhaustive search."""
    corpus = retriever._corpus(direction)
    session = session or retriever.generator
    result = exhaustive_search(session.checkpoint.model, query_inputs(session, direction, [query]), corpus.index)
    return {
        item: score
        for leaf, score in zip(result.leaves[0], result.scores[0].tolist(), strict=True)
        for item in corpus.index.items_of_leaf(leaf)
    }


def test_a_hit_explains_itself_in_plain_data(retriever):
    hits = retriever.search(text=QUERY, top_k=5)
    exact = exact_scores(retriever, Direction.T2I, QUERY)
    for rank, hit in enumerate(hits, start=1):
        found = hit.explain()
        assert json.loads(json.dumps(found)) == found
        assert (found["rank"], found["score"], found["confidence"]) == (rank, hit.score, hit.confidence)
        assert found["item"]["item_id"] == hit.item_id
        assert found["generator"]["log_probability"] == pytest.approx(exact[hit.item_id], abs=1e-4)
        assert found["steps"][-1]["sum"] == pytest.approx(sum(step["log_probability"] for step in found["steps"]))
        assert "".join(step["token"] for step in found["steps"][:-1]) == hit.identifier
        assert (found["steps"][0]["part"], found["steps"][-1]["part"]) == ("cluster", "end")
        words = [step["keyword"] for step in found["steps"] if step["part"] == "keyword"]
        assert list(dict.fromkeys(words)) == [row["keyword"] for row in found["keywords"]]
        assert found["search"]["outcome"] == ("found" if rank == 1 else "outranked")
        assert found["fusion"]["score"] == hit.score
        mixed = 0.5 * found["generator"]["score"] + 0.5 * found["verifier"]["score"]
        assert mixed / 0.5 == pytest.approx(hit.score, abs=1e-3)


def test_the_best_branch_not_taken_is_a_sibling(retriever):
    hit = retriever.search(text=QUERY)[0]
    corpus = retriever._corpus(Direction.T2I)
    tokens = identifier_tokens(retriever.generator, Direction.T2I, hit.identifier)
    tokenizer = retriever.generator.checkpoint.tokenizer
    for step in hit.explain()["steps"]:
        allowed = corpus.index.allowed_tokens(tokens[: step["depth"] - 1])
        assert step["num_branches"] == len(allowed)
        if len(allowed) == 1:
            assert step["best_other"] is None
        else:
            others = {tokenizer.decode([token]) for token in allowed if token != tokens[step["depth"] - 1]}
            assert step["best_other"]["token"] in others


def test_the_shifts_are_those_of_the_verifier(searchable_run):
    fusions = FusionSettings("listwise", {"listwise": {"t2i": Fusion(0.0, 1.0)}}, num_shifts={"t2i": 3})
    write_fusion_settings(searchable_run.run / "verification.json", fusions)
    retriever = Retriever.from_run(searchable_run.run, split="test", **CPU)
    hit = retriever.search(text=QUERY)[1]
    part = hit.explain()["verifier"]
    assert [row["counts"] for row in part["orders"]] == [True, False, True, False, True, False]
    assert sorted(row["letter"] for row in part["orders"]) == list("ABCDEF")  # once at every place
    assert all(0 < row["probability"] < 1 for row in part["orders"])
    [searched] = retriever._find(Direction.T2I, [QUERY], {}, 10)
    question = explanation_module.question_of(searched.shortlist)
    place = [choice.item_id for choice in question.choices].index(hit.item_id)
    session = retriever._verifier_with({})
    once = choose(session, Direction.T2I, [question])[0][place]
    [first] = [row["probability"] for row in part["orders"][:1]]
    assert first == pytest.approx(float(torch.tensor(once).exp()), abs=1e-4)
    assert part["score"] == pytest.approx(choose(session, Direction.T2I, [question], num_shifts=3)[0][place], abs=1e-4)
    assert part["rank"] == 2  # with weight 0 the verifier decides alone


def test_a_lost_item_says_where(finished_training):
    """With one beam the right item is lost where another prefix of that length is likelier."""
    narrow = Retriever.from_run(finished_training.run, num_beams=1, **CPU)
    exact = exact_scores(narrow, Direction.T2I, QUERY)
    outcomes = set()
    for item_id in exact:
        found = narrow.explain(text=QUERY, item_id=item_id, top_k=1)
        outcomes.add(found["search"]["outcome"])
        if found["search"]["outcome"] == "lost":
            assert found["rank"] is None and found["verifier"] is None and found["fusion"] is None
            depth = found["search"]["depth"]
            assert found["search"]["prefix"] == "".join(step["token"] for step in found["steps"][:depth])
            assert found["search"]["prefix_score"] == found["steps"][depth - 1]["sum"]
            assert found["search"]["prefix_score"] <= found["search"]["last_beam_score"] + 1e-4
            assert f"lost at depth {depth}" in render_explanation(found)
    assert {"found", "lost"} <= outcomes


def test_what_is_behind_the_shortlist_says_so(finished_training):
    retriever = Retriever.from_run(finished_training.run, num_candidates=2, **CPU)
    hits = retriever.search(text=QUERY, top_k=6)
    outcomes = [hit.explain()["search"]["outcome"] for hit in hits]
    assert outcomes == ["found", "outranked", *["not verified"] * 4]
    last = hits[-1].explain()
    assert last["verifier"] is None and last["fusion"] is None and last["generator"]["rank"] == 6


def test_the_prior_is_told_step_by_step(searchable_run):
    write_json(
        searchable_run.run / "prior.json",
        {"weights": {"t2i": 0.5}, "choice": "fit", "num_queries": 4, "seed": 0, "in_search": False},
    )
    retriever = Retriever.from_run(searchable_run.run, split="test", verifier="none", **CPU)
    hit = retriever.search(text=QUERY)[0]
    found = hit.explain()
    priors = [step["log_prior"] for step in found["steps"]]
    assert priors == sorted(priors, reverse=True) and priors[-1] < 0  # a longer prefix is never likelier
    part = found["generator"]
    assert part["log_prior"] == priors[-1]
    assert part["score"] == pytest.approx(part["log_probability"] - 0.5 * part["log_prior"])
    [searched] = retriever._find(Direction.T2I, [QUERY], {}, 10)
    assert part["score"] == pytest.approx(searched.generated[0].score, abs=1e-4)
    assert found["verifier"] is None
    assert "less 0.50 x log prior" in render_explanation(found)


def test_a_picture_says_no_words(retriever, finished_training):
    dataset = load_dataset(finished_training.data)
    path = dataset.image_path(dataset.split("test")[0])
    hit = retriever.search(image=path, top_k=3)[1]
    found = hit.explain()
    assert found["query"] == {"direction": "i2t", "text": None}
    assert found["cluster"]["words_in_query"] is None
    assert {row["in_query"] for row in found["keywords"]} == {None}
    assert found["item"]["text"] == hit.text
    same = retriever.explain(image=path, item_id=hit.item_id)
    assert same["generator"] == pytest.approx(found["generator"])
    assert hit.text in render_explanation(found)


def test_nothing_is_worked_out_in_advance(retriever, monkeypatch):
    """A batch calls no part of an explanation, and its hits are copied, sent and written as before."""
    monkeypatch.setattr(explanation_module, "path_steps", None)
    passes = []
    hook = retriever.generator.checkpoint.model.get_decoder().register_forward_hook(lambda *_: passes.append(1))
    many = retriever.search(text=[QUERY, "a blue star"], top_k=3)
    counted = len(passes)
    retriever.search(text=[QUERY, "a blue star"], top_k=3)
    hook.remove()
    assert len(passes) == 2 * counted
    hit = many[0][0]
    assert set(asdict(hit)) == {
        "item_id", "score", "identifier", "confidence", "text", "image_path", "no_match", "no_match_by"
    }  # fmt: skip
    for other in (pickle.loads(pickle.dumps(hit)), copy.deepcopy(hit)):
        assert other == hit
        with pytest.raises(UserError, match=r"^the hit \S+ is a copy, which knows nothing of its search"):
            other.explain()


def test_a_foreign_item_is_named(retriever):
    with pytest.raises(UserError, match=r"^there is no item 'nothing' among the 22 that are searched; choose"):
        retriever.explain(text=QUERY, item_id="nothing")
    with pytest.raises(UserError, match="^an explanation needs either a text or an image$"):
        retriever.explain(item_id="nothing")


def test_no_match_is_said_below_the_threshold(searchable_run):
    """What is compared is worked out anew from the scores of the hits, which are all of the shortlist."""
    seen = []
    for below in (None, -1e3, 1e3):
        write_rule(searchable_run, below)
        retriever = Retriever.from_run(searchable_run.run, split="test", **CPU)
        rule = None if below is None else NoMatchRule("log_sum_exp", below)
        assert retriever.no_match_rule(Direction.T2I) == rule
        hits = retriever.search(text=QUERY)
        [(no_match, basis)] = {(hit.no_match, hit.no_match_by) for hit in hits}  # every hit of a query says the same
        seen.append(no_match)
    assert seen == [None, False, True]
    together = math.log(sum(math.exp(hit.score) for hit in hits))
    assert len(hits) == 6 and (basis.of, basis.below) == ("log_sum_exp", 1e3)
    assert basis.value == pytest.approx(together)
    assert hits[0].explain()["fusion"]["no_match"] == asdict(basis)
    assert f"all candidates together {together:.2f}, no match below 1000.00" in render_explanation(hits[0].explain())
    assert no_match_note(hits) == (
        f"no match: the scores of all candidates together come to {together:.2f} (log_sum_exp), below 1000.00, the "
        "threshold fitted on val"
    )


def test_what_was_fitted_with_other_scores_decides_nothing(searchable_run):
    """With another weight of the prior, or without the guide, scores are on another scale."""
    write_rule(searchable_run, 1e3)
    prior = Retriever.from_run(searchable_run.run, split="test", prior_weight=0.5, **CPU)
    write_rule(searchable_run, 1e3, further={"guide": 0.5})
    plain = Retriever.from_run(searchable_run.run, split="test", plain=True, **CPU)
    for retriever, why in (
        (prior, "prior weight 0.00, not with 0.50 as here"), (plain, "a guide or dense vectors that are left out here")
    ):  # fmt: skip
        assert retriever.no_match_rule(Direction.T2I) is None
        hit = retriever.search(text=QUERY)[0]
        assert (hit.no_match, hit.no_match_by, hit.explain()["fusion"]["no_match"]) == (None, None, None)
        assert hit.confidence is not None
        assert retriever.confidence_note(Direction.T2I) == (
            f"confidence and the weights behind the order were fitted with {why}: confidence is not to be trusted, and "
            "nothing says what is no match"
        )


def test_among_more_items_no_match_is_said_too_seldom(searchable_run):
    write_rule(searchable_run, 1e3, num_items=4)
    retriever = Retriever.from_run(searchable_run.run, split="test", **CPU)
    assert retriever.confidence_note(Direction.T2I).endswith("likely too high and no match said too seldom")
    write_rule(searchable_run, None, num_items=8)
    retriever = Retriever.from_run(searchable_run.run, split="test", **CPU)
    assert retriever.confidence_note(Direction.T2I).endswith("likely too low")


def write_rule(run, below, **further):
    rule = None if below is None else NoMatchRule("log_sum_exp", below)
    calibration = Calibration(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    fusion = Fusion(0.5, 1.0, calibration, **{"num_items": 6, **further}, no_match=rule)
    write_fusion_settings(run.run / "verification.json", FusionSettings("likelihood", {"likelihood": {"t2i": fusion}}))


def test_words_are_told_apart(searchable_run):
    write_json(
        searchable_run.run / "identifiers" / "cluster_words.json",
        {"clusters": [{"words": []}, {"words": ["red", "sky", "living room"]}]},
    )
    cluster = cluster_of("<|cluster_1|>dog ball", RunFolder(searchable_run.run), "a Red dog in the living room")
    assert cluster == {
        "token": "<|cluster_1|>", "global_id": 1,
        "words": ["red", "sky", "living room"], "words_in_query": ["red", "living room"],
    }  # fmt: skip
    assert cluster_of("dog ball", RunFolder(searchable_run.run), None) is None
    assert keywords_of("dog ball", "a dog") == [
        {"keyword": "dog", "in_query": True},
        {"keyword": "ball", "in_query": False},
    ]
    assert not says("a reddish dog", "red")
    assert says("item 7 of 9", "7") and not says("item 17", "7")


def test_of_several_identifiers_the_one_that_was_found_is_explained(retriever):
    [searched] = retriever._find(Direction.T2I, [QUERY], {}, 10)
    first = searched.generated[0]
    item = retriever._corpus(Direction.T2I).items[first.item_id]
    another = replace(item, identifier="<|cluster_0|>nothing", more=(first.identifier,))
    assert searched.identifier_of(another) == first.identifier
    assert searched.identifier_of(replace(another, item_id="elsewhere")) == "<|cluster_0|>nothing"
