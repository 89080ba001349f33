"""Guides by name: keywords and vectors, beside loops over items."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from semcore.data.directions import Direction
from semcore.data.identifier_files import make_row
from semcore.data.items_and_queries import Item
from semcore.data.run_folder import RunFolder
from semcore.decoding import IdentifierIndex, constrained_beam_search
from semcore.decoding.guides import LookAhead
from semcore.decoding.potentials import sequences_of_items
from semcore.models.prompts import load_prompts
from semcore.models.session import FeaturesInMemory, ModelSession
from semcore.models.set_head import new_set_head
from semcore.models.set_inference import set_weights
from semcore.retrieval.corpus import build_corpus
from semcore.retrieval.dense import DenseEncoder, item_vectors
from semcore.retrieval.generator import query_inputs
from semcore.retrieval.guides import GuideSettings, check_guide, dense_scores, item_guide, keyword_rarity, word_scores
from semcore.retrieval.open_guide import GuideMaker
from semcore.retrieval.set_guide import SetGuide, check_units
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_jsonl

WORDS = [["dog", "park"], ["cat"], ["dog", "frisbee", "red"], [], ["dog", "dog"]]
ITEMS = [Item(str(row), str(row), "", " ".join(own)) for row, own in enumerate(WORDS)]
RARITY = {"dog": 1.5, "park": 2.0, "cat": 2.5, "frisbee": 3.0}
QUERIES = ["A dog, in the park!", "a CAT and a dog", "nothing of it", "red red frisbees, a frisbee"]


def test_words_are_counted_as_a_loop_counts_them() -> None:
    """A word that the training split lacks is as rare as the rarest; repeated words count once."""
    asked = [{"dog", "park"}, {"cat", "dog"}, set(), {"red", "frisbee"}]
    expected = [
        [sum(RARITY.get(word, 3.0) for word in set(own) & told) / (len(own) + 1) for own in WORDS] for told in asked
    ]
    assert word_scores(ITEMS, RARITY, str.lower)(QUERIES) == pytest.approx(np.array(expected))


def test_rarity_is_that_of_the_training_split(tmp_path: Path) -> None:
    rows = [make_row(str(row), "train", 0, words) for row, words in enumerate([["dog"], ["dog", "cat"], ["owl"]])]
    write_jsonl(tmp_path / "identifiers" / "t2i.jsonl", [*rows, make_row("9", "test", 0, ["cat", "fox"])])
    rarity = keyword_rarity(RunFolder(tmp_path), Direction.T2I)
    expected = {"dog": math.log(4 / 3) + 1, "cat": math.log(4 / 2) + 1, "owl": math.log(4 / 2) + 1}
    assert rarity == pytest.approx(expected)


def test_identifiers_without_keywords_have_no_words_to_guide(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "identifiers" / "t2i.jsonl", [make_row("1", "train", 3, [])])
    with pytest.raises(UserError) as raised:
        keyword_rarity(RunFolder(tmp_path), Direction.T2I)
    assert str(raised.value) == (
        f"the guide words reads keywords, and the identifiers of {tmp_path} have none; choose --guide.kind dense"
    )


def test_vectors_guide_by_their_cosine_times_a_scale_and_the_weight() -> None:
    index = IdentifierIndex.from_sequences([[5, 1], [6, 1], [5, 1]], ["a", "b", "c"])
    items = [Item(own, own, "", "") for own in "abc"]
    vectors = np.eye(3, dtype=np.float32)
    encoder = DenseEncoder(lambda texts: np.array([[0.6, 0.0, 0.8]] * len(texts), np.float32), lambda ids: vectors)
    guide = item_guide("dense", index, items, dense_scores(encoder, Direction.T2I, vectors))
    bonus = guide.bonus(["x", "y"], 0.5)
    assert isinstance(bonus, LookAhead)
    leaves = torch.tensor([[index.leaf([5, 1]), index.leaf([6, 1])]] * 2)
    assert bonus.total(index.tensors, leaves).tolist() == [pytest.approx([4.0, 0.0])] * 2


def test_vectors_of_items_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File by file; another encoder or another text makes them anew."""
    monkeypatch.setattr("semcore.retrieval.dense.ITEMS_PER_FILE", 2)
    items = [Item(str(row), str(row), "", "", text=f"text {row}") for row in range(5)]
    seen: list[str] = []

    def texts(given: list[str]) -> np.ndarray:
        seen.extend(given)
        return np.array([[float(text.split()[1]), 1.0] for text in given], np.float32)

    encoder = DenseEncoder(texts, texts)  # type: ignore[arg-type]
    first = item_vectors(encoder, "key", Direction.I2T, items, tmp_path)
    assert first.tolist() == [[float(row), 1.0] for row in range(5)]
    assert len(seen) == 5
    assert np.array_equal(item_vectors(encoder, "key", Direction.I2T, items, tmp_path), first)
    assert len(seen) == 5
    items[4] = Item("4", "4", "", "", text="text 7")
    assert item_vectors(encoder, "key", Direction.I2T, items, tmp_path)[4, 0] == 7
    assert len(seen) == 6
    item_vectors(encoder, "other", Direction.I2T, items, tmp_path)
    assert len(seen) == 11


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            ("words", "tokens", "semcore", True),
            "--guide.mode tokens adds up weights of tokens, and the guide words knows whole items only: choose "
            "--guide.mode lookahead, or --guide.kind set",
        ),
        (
            ("dense", "lookahead", "transformers", True),
            "--guide.kind needs the beam search of semcore over identifiers: leave --engine and --constraint as they "
            "are, or leave it out",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(given: tuple[str, str, str, bool], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        check_guide(*given)
    assert str(raised.value) == sentence
    check_guide("none", "released", "transformers", False)


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("mode", ["lookahead", "tokens", "released"])
def test_a_set_head_guides_in_each_form(mode: str, equal: bool) -> None:
    """Codes of one token each: the item's score is the sum over its codes, or the mean where some have fewer."""
    sequences = [[5, 8, 1], [5, 9, 1], [6, 8, 1]] if equal else [[5, 8, 1], [5, 9, 1], [6, 1]]
    index = IdentifierIndex.from_sequences(sequences, ["a", "b", "c"])
    tokens = torch.tensor([5, 6, 8, 9])
    units = torch.tensor([[0, 2], [0, 3], [1, 2 if equal else -1]])
    weights = torch.tensor([[1.0, 2.0, 4.0, 0.5]])
    pairs = sequences_of_items(index, ["a", "b", "c"])
    guide = SetGuide(index, pairs, units, tokens, lambda prompts: weights, mode)  # type: ignore[arg-type]
    making = guide.bonus(["query"], 0.5)
    none: Any = None
    if mode == "released" and not equal:
        with pytest.raises(UserError, match="needs identifiers of one length, found 2 to 3 tokens"):
            making(none)
        return
    leaves = torch.tensor([[index.leaf(own) for own in sequences]])
    found = making(none).total(index.tensors, leaves)[0].tolist()
    sums = [5.0, 1.5, 6.0 if equal else 2.0]
    if mode == "lookahead":
        expected = [0.5 * value / (1 if equal else count) for value, count in zip(sums, (2, 2, 1), strict=True)]
    elif mode == "tokens":
        expected = [0.5 * value for value in sums]
    else:  # first token once, later ones one and a half times; then the best below what stands before, over M * tau
        h = dict(zip(tokens.tolist(), (0.5 * weights[0]).tolist(), strict=True)) | {1: 0.0}
        below = {5: max(h[5] + h[8], h[5] + h[9]) / 16, 6: (h[6] + h[8]) / 16}
        whole = [(h[own[0]] + h[own[1]]) / 16 for own in sequences]
        expected = [
            h[own[0]] + 1.5 * h[own[1]] + below[own[0]] + last for own, last in zip(sequences, whole, strict=True)
        ]
    assert found == pytest.approx(expected, abs=1e-5)


def test_units_of_several_tokens_are_searched_as_wholes() -> None:
    tokens = torch.tensor([7, -1])
    check_units("lookahead", ["dog", "ice cream"], tokens)
    with pytest.raises(UserError) as raised:
        check_units("tokens", ["dog", "ice cream"], tokens)
    assert str(raised.value) == (
        "--guide.mode tokens adds up weights of tokens, and 1 of the 2 units of these identifiers are several tokens, "
        "'ice cream' for one: choose --guide.mode lookahead"
    )


def test_a_set_head_guides_the_search_of_a_corpus(tmp_path: Path, tiny_checkpoint: Any) -> None:
    """What is found has log p and the mean weight of its units, both as computed for each query and item alone."""
    session = ModelSession(
        tiny_checkpoint, load_prompts(special_tokens=tiny_checkpoint.special_tokens), FeaturesInMemory()
    )
    rows = [make_row(str(n), "train", -1, words) for n, words in enumerate([["dog"], ["park", "dog"], ["street"]])]
    write_jsonl(tmp_path / "identifiers" / "t2i.jsonl", rows)
    items = [Item(row["item_id"], row["item_id"], row["identifier"], " ".join(row["lexical_id"])) for row in rows]
    corpus = build_corpus(session, Direction.T2I, items)
    maker = GuideMaker(
        GuideSettings("set"), RunFolder(tmp_path), session, open_encoder=lambda: cast(DenseEncoder, None)
    )
    with pytest.raises(UserError, match="the guide set reads a set head, and .* has none; train it with --losses.set-"):
        maker.make(Direction.T2I, corpus)
    head = new_set_head(tiny_checkpoint.model, tiny_checkpoint.tokenizer, ["dog", "park"])  # a street is not known
    with torch.no_grad():
        head.linear.bias.copy_(torch.tensor([2.0, 3.0]))
    queries = ["a dog", "a street in a park"]
    inputs = query_inputs(session, Direction.T2I, queries)
    bonus = maker.make(Direction.T2I, corpus).bonus(queries, 5.0)
    plain = constrained_beam_search(tiny_checkpoint.model, inputs, corpus.index, num_beams=3)
    guided = constrained_beam_search(tiny_checkpoint.model, inputs, corpus.index, num_beams=3, bonus=bonus)
    weights = set_weights(tiny_checkpoint.model, inputs)
    for query in range(2):
        before = {corpus.index.items_of_leaf(leaf)[0]: score.item() for leaf, score in
                  zip(plain.leaves[query], plain.scores[query], strict=True)}  # fmt: skip
        for leaf, score in zip(guided.leaves[query], guided.scores[query], strict=True):
            item = corpus.index.items_of_leaf(leaf)[0]
            known = [weights[query, unit].item() for unit in {"0": [0], "1": [1, 0], "2": []}[item]]
            own = sum(known) / max(1, len(known))
            assert score.item() == pytest.approx(before[item] + 5.0 * own, abs=1e-3)
