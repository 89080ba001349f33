"""Retrieval on captions alone: the language model inside an InternVL, the dataset, the prior, and the results."""

from __future__ import annotations

import json
import random
from dataclasses import fields

import numpy as np
import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from benchmarks import real_language
from benchmarks.language_data import make_dataset
from benchmarks.language_model import save_internvl
from benchmarks.language_results import render, scores, write_results
from benchmarks.language_search import LanguageSearch, corrected, first_ranks, weight_on
from benchmarks.real_language import COMMON, TRAINING, VARIANTS, Settings, dense_ranks
from data_prep import identifiers
from recipes import train_identifier
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.decoding import exhaustive_search
from semcore.models.checkpoint import load_checkpoint, load_tokenizer
from semcore.retrieval.dense import DenseEncoder
from semcore.retrieval.generator import query_inputs
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_jsonl, write_json, write_jsonl
from semcore.runtime.packaged_files import asset_folder


def test_a_language_model_says_the_same_inside_an_internvl(tmp_path):
    tokenizer = load_tokenizer(asset_folder("scenes_base"))
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, pad_token_id=None, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    alone = Gemma3ForCausalLM(config).eval()
    tokens = torch.tensor([[7, 30, 41, 9, 12]])
    expected = alone(tokens).logits
    alone.config.quantization_config = {"quant_method": "gguf"}
    save_internvl(tmp_path / "model", alone, tokenizer, torch.float32)
    inside = load_checkpoint(tmp_path / "model")
    assert torch.allclose(inside.model(tokens).logits, expected, atol=1e-5)
    assert "quantization_config" not in json.loads((tmp_path / "model" / "config.json").read_text())["text_config"]


def test_one_sentence_is_the_caption_and_the_others_are_queries(tmp_path):
    images = [
        {
            "filename": f"{split}{number}.jpg", "split": split,
            "sentences": [{"raw": f"{split} {number} sentence {k}", "sentid": f"{split}{number}{k}"} for k in range(5)],
        }
        for split in ("train", "val", "test") for number in range(3)
    ]  # fmt: skip
    write_json(tmp_path / "all.json", {"dataset": "few", "images": images})
    make_dataset(tmp_path / "all.json", tmp_path / "out", {"train": 2, "val": 1, "test": 3}, num_queries=2, seed=0)
    dataset = load_dataset(tmp_path / "out" / "data")
    captions = {row["image_id"]: row["caption"] for row in read_jsonl(tmp_path / "out" / "captions.jsonl")}
    assert [len(dataset.split(split)) for split in ("train", "val", "test")] == [2, 1, 3]
    for record in dataset.images:
        texts = [sentence.text for sentence in record.sentences]
        assert len(texts) == (2 if record.split == "train" else 4)
        assert captions[record.image_id] not in texts
        assert captions[record.image_id].split(" sentence")[0] == texts[0].split(" sentence")[0]


def test_a_likely_identifier_falls_when_its_prior_is_taken_off():
    priors = {"likely": -1.0, "right": -5.0, "other": -5.0}
    rng = random.Random(0)
    found = {
        str(query): [("likely", -1.5 + 0.1 * rng.random()), ("right", -2.0), ("other", -4.0)] for query in range(40)
    }
    right = {query: {"right"} for query in found}
    weight = weight_on(found, right, priors)
    assert weight > 0.5
    assert set(first_ranks(found, right)) == {2}
    assert set(first_ranks({query: corrected(row, priors, weight) for query, row in found.items()}, right)) == {1}
    assert first_ranks({"a": [("likely", 0.0)]}, {"a": {"right"}}) == [None]


def test_results_hold_every_variant_against_the_paper(tmp_path):
    for name in ("paper", "spoken"):
        run = tmp_path / name
        quality = {"num_identifiers": 4, "num_shared_items": 0, "alone_percent": {}, "bigram_entropy": 5.0}
        mentions = {"percent_by_depth": {"1": 31.4}, "words_per_sentence": 0.9}
        write_json(run / "identifiers" / "report.json", {"t2i": {"test": quality}, "mentions": {"test": mentions}})
        write_json(run / "manifest.json", {"stages": {"train_identifier": {"seconds": 60.0}}})
    about = {"prior_weight": 0.4, "prior_sd": 2.0, "seconds_a_query": {}}
    done = {
        "paper": {"ranks": {"20 beams": [1, 2, None, 11]}, **about},
        "spoken": {"ranks": {"20 beams": [1, 1, 1, 2]}, **about},
    }
    write_results(
        tmp_path / "results.json", tmp_path / "results.md", {"paper": "A", "spoken": "B", "no_cluster": "C"}, done,
        runs={name: tmp_path / name for name in done}, relevant={query: {query} for query in "abcd"},
        dense=[1, 1, None, None],
        sizes={"train": 8, "train_queries": 16, "val": 2, "test": 4, "prior_queries": 3},
    )  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    spoken = results["variants"]["spoken"]["rankings"]["20 beams"]
    assert spoken["scores"]["R@1"]["value"] == 75.0
    assert spoken["more_than_paper"]["R@1"]["value"] == 50.0
    assert spoken["more_than_paper"]["R@10"]["low"] <= 50.0 <= spoken["more_than_paper"]["R@10"]["high"]
    assert results["dense"]["more_than_paper"]["R@1"]["value"] == 25.0
    assert results["not_run"] == ["no_cluster"]
    assert (tmp_path / "results.md").read_text() == render(results, {"paper": "A", "spoken": "B", "no_cluster": "C"})


def test_queries_of_one_image_are_drawn_together():
    ranks = [1, 1, None, None]
    apart, together = (scores(ranks, groups)["R@1"] for groups in ("abcd", "aabb"))
    assert apart["high"] - apart["low"] <= together["high"] - together["low"] == 100.0


def test_every_variant_is_made_by_settings_that_exist(tmp_path, capsys):
    known = {field.name for field in fields(identifiers.Settings)}
    assert {flag for variant in VARIANTS.values() for flag in variant.identifiers} | COMMON.keys() <= known
    known = {field.name for field in fields(train_identifier.Settings)}
    assert {flag.split(".")[0] for flag in TRAINING} <= known
    real_language.main(Settings(captions=tmp_path / "none.json", out=tmp_path, plan=True))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in printed] == [[name, "to", "do"] for name in VARIANTS]


def test_an_unknown_variant_is_refused(tmp_path):
    with pytest.raises(UserError, match="--variants fast"):
        Settings(captions=tmp_path, out=tmp_path, variants=["paper", "fast"])


def test_a_search_finds_what_exhaustive_search_finds_and_is_not_done_twice(searchable_run, monkeypatch):
    run, dataset = RunFolder(searchable_run.run), load_dataset(searchable_run.data)
    search = LanguageSearch(run, dataset, {"test": 3})
    items = search.view("test").items
    found = search.find("test", num_beams=2 * len(items))
    queries = search.view("test").queries
    assert found.keys() == queries.relevant.keys()
    assert len(found) == 3
    inputs = query_inputs(search.session, Direction.T2I, list(queries.contents.values()))
    exact = exhaustive_search(search.session.checkpoint.model, inputs, search.corpus("test").index, "identifiers")
    for query, row in zip(queries.contents, exact.scores.tolist(), strict=True):
        assert sorted(item for item, _ in found[query]) == sorted(items)
        assert found[query][0][1] == pytest.approx(row[0], abs=1e-3)

    priors = search.priors("test", num_queries=2)
    assert priors.keys() == items.keys()
    assert all(prior < 0 for prior in priors.values())
    first, second = list(items)[:2]  # they share their identifier
    assert priors[first] == priors[second]

    again = LanguageSearch(run, dataset, {"test": 3})
    monkeypatch.setattr("benchmarks.language_search.load_for_inference", None)
    assert again.find("test", num_beams=2 * len(items)) == found
    assert again.priors("test", num_queries=2) == priors
    assert len(again.seconds()) == 1


def test_an_item_with_two_identifiers_counts_once_by_the_better(searchable_run):
    run = RunFolder(searchable_run.run)
    rows = list(read_jsonl(run / "identifiers" / "t2i.jsonl"))
    own = next(row for row in reversed(rows) if row["split"] == "test")
    own["more"] = [rows[0]["identifier"]]
    write_jsonl(run / "identifiers" / "t2i.jsonl", rows)
    search = LanguageSearch(run, load_dataset(searchable_run.data), {"test": 3})
    items = search.view("test").items
    found = search.find("test", num_beams=2 * len(items))
    two = [own["item_id"], f"{own['item_id']} (2)"]
    assert {tuple(sorted(name for name, _ in row)) for row in found.values()} == {tuple(sorted([*items, two[1]]))}
    priors = search.priors("test", num_queries=2)
    assert priors[two[0]] != priors[two[1]]
    ranked = {"query": [("a (2)", 0.0), ("b", -1.0), ("a", -2.0), ("c", -3.0)]}
    assert first_ranks(ranked, {"query": {"c"}}) == [3]
    assert first_ranks(ranked, {"query": {"a"}}) == [1]
    likely, right = {"a (2)": -9.0, "b": -1.0, "a": -9.0, "c": -1.0}, {f"query {n}": {"a"} for n in range(20)}
    below = {query: [("b", -1.0), ("c", -1.0), ("a (2)", -2.0)] for query in right}
    assert weight_on(below, right, likely) > 0.1, "a second identifier is its item's"


def test_dense_retrieval_ranks_the_same_queries_and_is_not_done_twice(searchable_run, tmp_path, monkeypatch):
    dataset = load_dataset(searchable_run.data)
    search = LanguageSearch(RunFolder(searchable_run.run), dataset, {"test": 3})
    view = search.view("test")
    captions = {record.image_id: record.sentences[0].text for record in dataset.images}
    write_jsonl(tmp_path / "captions.jsonl", [{"image_id": key, "caption": text} for key, text in captions.items()])
    asked = {text: min(view.queries.relevant[query]) for query, text in view.queries.contents.items()}
    places = {image_id: place for place, image_id in enumerate(view.items)}

    def vectors(image_ids):
        return np.eye(len(places))[[places[image_id] for image_id in image_ids]]

    oracle = DenseEncoder(lambda texts: vectors([asked[text] for text in texts]), vectors)
    monkeypatch.setattr(real_language, "caption_encoder", lambda *_: oracle)
    assert dense_ranks(tmp_path, search) == [1, 1, 1]
    monkeypatch.setattr(real_language, "caption_encoder", None)
    assert dense_ranks(tmp_path, search) == [1, 1, 1]
