from dataclasses import replace

import pytest
import torch

from semcore.data.dataset import load_dataset, open_image
from semcore.data.directions import Direction
from semcore.data.items_and_queries import read_items
from semcore.data.run_folder import RunFolder
from semcore.decoding import IdentifierIndex
from semcore.models.checkpoint import load_checkpoint
from semcore.models.prompts import IMAGE, load_prompts
from semcore.models.session import load_session
from semcore.models.tokenization import answer_tokens, prepare_images, tokenize
from semcore.retrieval.corpus import build_corpus
from semcore.retrieval.generator import generate, query_inputs
from semcore.runtime.errors import UserError
from tests.pixel_inputs import batch_inputs, prompt_text


@pytest.fixture(scope="module")
def generator(finished_training):
    return load_checkpoint(finished_training.run / "identifier_model")


@pytest.fixture(scope="module")
def session(generator, dataset):
    return load_session(generator, dataset, None)


@pytest.fixture(scope="module")
def dataset(finished_training):
    return load_dataset(finished_training.data)


def items_of(finished_training, dataset, direction, split):
    return read_items(RunFolder(finished_training.run), dataset, direction, split)


@torch.inference_mode()
def slow_scores(checkpoint, dataset, direction, query, items):
    """The teacher-forced log-probability of every item's identifier, one plain forward an item."""
    prompts, tiles = load_prompts(special_tokens=checkpoint.special_tokens), []
    turn = (
        prompts.render("identify_t2i", query=query)
        if direction == "t2i"
        else prompts.render("identify_i2t", image=IMAGE)
    )
    if direction == "i2t":
        record = next(record for record in dataset.images if record.image_id == query)
        tiles = prepare_images(checkpoint, [open_image(dataset.image_path(record))])
    text = prompt_text(checkpoint, turn, tiles)
    inputs = batch_inputs(checkpoint, [text], [tiles])
    length = len(tokenize(checkpoint.tokenizer, text))
    scores = {}
    for item in items:
        answer = answer_tokens(checkpoint.tokenizer, text, item.identifier)
        ids = torch.cat([batch_inputs(checkpoint, [text], [tiles])["input_ids"], torch.tensor([answer])], dim=1)
        whole = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        gains = checkpoint.model(**whole).logits[0, length - 1 : -1].log_softmax(dim=-1)
        scores[item.item_id] = gains[range(len(answer)), answer].sum().item()
    return scores


@pytest.mark.parametrize("direction", list(Direction))
def test_wide_beams_rank_as_scoring_every_item_does(generator, session, dataset, finished_training, direction):
    items = items_of(finished_training, dataset, direction, "test")
    corpus = build_corpus(session, direction, items)
    records = dataset.split("test")[:2]
    queries = [record.sentences[0].text if direction == "t2i" else record.image_id for record in records]
    hits = generate(session, direction, queries, corpus, num_beams=40)
    for query, own in zip(queries, hits, strict=True):
        slow = slow_scores(generator, dataset, direction, query, items)
        assert {hit.item_id: hit.score for hit in own} == pytest.approx(slow, abs=1e-3)
        assert [hit.score for hit in own] == sorted((hit.score for hit in own), reverse=True)


def test_items_of_one_identifier_stay_apart_in_their_order(session, dataset, finished_training):
    items = items_of(finished_training, dataset, Direction.T2I, "test")
    shared = [item.item_id for item in items if item.identifier == items[0].identifier]
    assert len(shared) >= 2
    corpus = build_corpus(session, Direction.T2I, items)
    [hits] = generate(session, Direction.T2I, ["a red circle"], corpus, num_beams=20)
    found = [hit for hit in hits if hit.identifier == items[0].identifier]
    assert [hit.item_id for hit in found] == shared
    assert len({hit.score for hit in found}) == 1
    [few] = generate(session, Direction.T2I, ["a red circle"], corpus, num_beams=2)
    assert len(few) == 2


def test_both_engines_and_all_batches_agree(session, dataset, finished_training):
    items = items_of(finished_training, dataset, Direction.T2I, "test")
    corpus = build_corpus(session, Direction.T2I, items)
    queries = [sentence.text for sentence in dataset.split("test")[0].sentences]
    ours = generate(session, Direction.T2I, queries, corpus, num_beams=3)
    theirs = generate(session, Direction.T2I, queries, corpus, num_beams=3, engine="transformers", batch_size=2)
    assert [[hit.item_id for hit in own] for own in ours] == [[hit.item_id for hit in own] for own in theirs]


def test_queries_are_asked_as_the_model_was_trained(generator, session):
    """The tokens of a query are those of training, special tokens in it made harmless."""
    inputs = query_inputs(session, Direction.T2I, ["a <|cluster_1|> dog"])
    expected = prompt_text(generator, session.prompts.render("identify_t2i", query="a <|cluster_1|> dog"))
    assert inputs["input_ids"][0].tolist() == tokenize(generator.tokenizer, expected)
    assert generator.tokenizer.convert_tokens_to_ids("<|cluster_1|>") not in inputs["input_ids"]


def test_a_model_that_does_not_know_the_clusters_is_refused(lively_checkpoint, session, dataset, finished_training):
    items = items_of(finished_training, dataset, Direction.T2I, "test")
    with pytest.raises(UserError, match="does not know the token <.cluster_.*> of the identifiers"):
        build_corpus(replace(session, checkpoint=lively_checkpoint), Direction.T2I, items)


def test_nothing_to_search(session):
    with pytest.raises(UserError, match="there is no item to search"):
        build_corpus(session, Direction.T2I, [])


def test_identifiers_without_global_ids_are_found_too(generator, session, dataset, finished_training):
    items = [
        replace(item, identifier=item.keywords if number else "")
        for number, item in enumerate(items_of(finished_training, dataset, Direction.T2I, "test"))
    ]
    corpus = build_corpus(session, Direction.T2I, items)
    query = dataset.split("test")[0].sentences[0].text
    [found] = generate(session, Direction.T2I, [query], corpus, num_beams=50)
    expected = slow_scores(generator, dataset, Direction.T2I, query, items)
    assert {hit.item_id: hit.score for hit in found} == pytest.approx(expected, abs=1e-3)


def test_a_leaf_that_the_search_holds_is_not_searched_again(session, dataset, finished_training, monkeypatch):
    corpus = build_corpus(session, Direction.T2I, items_of(finished_training, dataset, Direction.T2I, "test"))
    before = generate(session, Direction.T2I, ["a red circle"], corpus)
    monkeypatch.setattr(IdentifierIndex, "find", None)
    assert generate(session, Direction.T2I, ["a red circle"], corpus) == before
