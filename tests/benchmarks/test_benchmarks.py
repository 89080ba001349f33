"""The benchmarks' own parts: the corpora they draw, the peer they run, the file they write."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import generation
from benchmarks.corpora import END_TOKEN, VOCABULARY, synthetic_corpus
from benchmarks.generation import Setting, profile
from benchmarks.identifier_statistics import tree_figures
from benchmarks.identifiers import share_alike
from benchmarks.index import Settings, prefixes_of, step_rows
from benchmarks.peers.dict_trie import DictTrie
from benchmarks.random_models import text_model, text_prompts
from benchmarks.report import higher_is_better, lower_is_better, not_run, publish
from benchmarks.training import padded_batch
from semcore.decoding import IdentifierIndex
from semcore.runtime.errors import UserError
from semcore.training.identifier_pairs import Example


def test_synthetic_identifiers_look_like_real_ones() -> None:
    """The figures in the module's docstring, at the size they were measured at."""
    figures = tree_figures(synthetic_corpus(31_014).sequences())
    assert figures["tokens an identifier"] == pytest.approx(7.4, abs=0.2)
    assert figures["fan-out after the first token, median"] == pytest.approx(141, abs=30)
    assert figures["fan-out after the first token, largest"] == pytest.approx(458, abs=120)
    assert figures["items that share their identifier"] == pytest.approx(1.4, abs=0.3)


def test_the_dictionaries_and_the_index_allow_the_same() -> None:
    """A constraint step is only timed if both sides allow the same tokens; `step_rows` refuses otherwise."""
    corpus = synthetic_corpus(2_000)
    index = IdentifierIndex.from_sequences((corpus.tokens, corpus.offsets), corpus.item_ids)
    trie = DictTrie(corpus.sequences(), corpus.item_ids)
    for prefix in prefixes_of(index, corpus, 50, 2):
        assert sorted(trie.allowed_tokens(prefix)) == index.allowed_tokens(prefix)
    (row,) = step_rows(index, corpus, trie, 4, Settings(repeats=1))
    assert row.ratio == pytest.approx(row.peer / row.ours)  # type: ignore[operator]


def test_rows_are_saved_as_the_contract_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        lower_is_better("seconds", 2.0, 6.0, "s"),
        higher_is_better("rate", 6.0, 2.0, "1/s", "note"),
        not_run("gpu", "no GPU"),
    ]
    publish(rows, tmp_path / "rows.json")
    saved = json.loads((tmp_path / "rows.json").read_text())
    assert set(saved) == {"rows", "machine", "versions", "date", "command"}
    assert set(saved["rows"][0]) == {"name", "ours", "peer", "ratio", "unit", "note"}
    assert [row["ratio"] for row in saved["rows"]] == [3.0, 3.0, None]
    assert "not run: no GPU" in capsys.readouterr().out


def test_keywords_that_differ_are_not_timed() -> None:
    theirs = [[("dog", 0.9), ("park", 0.5)], [("cat", 0.7)]]
    assert share_alike([["park", "dog"], ["cat"]], theirs) == 1.0
    with pytest.raises(RuntimeError, match="only 50.0 % of the captions have the words that KeyBERT finds"):
        share_alike([["park", "dog"], ["cats"]], theirs)


def test_padded_batches_have_labels_on_answers_only() -> None:
    batch = padded_batch([Example([5, 6], [7]), Example([5], [8, 9, 7])], pad_token_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 0], [5, 8, 9, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[-100, -100, 7, -100], [-100, 8, 9, 7]]


def test_a_profile_has_what_takes_most_of_a_search() -> None:
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = text_model(shape, VOCABULARY, "cpu", torch.float32)
    sequences = [[number, 7 + number % 5, END_TOKEN] for number in range(20, 90)]
    index = IdentifierIndex.from_sequences(sequences, [str(number) for number in range(70)])
    rows = profile(Setting("small", model, text_prompts(2, "cpu")), index, num_beams=5)
    assert [name for name, *_ in rows] == ["small, vocabulary"] * 6 + ["small, identifiers"] * 6
    assert rows[0][1] == "aten::mm", "the output head"
    shares = [float(share) for *_, share in rows[:6]]
    assert shares == sorted(shares, reverse=True) and 10 < sum(shares) <= 100


def test_a_profile_is_of_a_processor() -> None:
    with pytest.raises(UserError, match="a processor's seconds go; leave --device cuda out"):
        generation.Settings(profile=Path("profile.md"), device="cuda")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("verification_speed", ["feature_store", "blocks"]),
        ("training", ["stage1_packed", "stage2_feature_store"]),
        ("identifiers", ["keywords_vs_per_document", "keywords_vs_list"]),
    ],
)
def test_a_quick_run_has_every_row(
    run_module: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, module: str, names: list[str]
) -> None:
    done = run_module(f"benchmarks.{module}", "--quick", "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["name"] for row in rows] == names
    assert all(row["ours"] > 0 and row["peer"] > 0 for row in rows)
