"""The figures of the report, counted by hand."""

from __future__ import annotations

import subprocess
import sys
from math import log

import pytest

from semcore.data.directions import Direction
from semcore.data.identifier_files import NO_CLUSTER, make_row
from semcore.identifiers.keyword_schemes import introduce_keywords
from semcore.identifiers.quality import bigram_entropy, items_without_keyword, measure_items, measure_quality
from semcore.identifiers.quality_report import render_report

ROWS = [
    make_row("a", "train", 0, ["dog", "park"]),
    make_row("b", "train", 0, ["dog", "park"]),
    make_row("c", "test", 0, ["dog", "ball"]),
    make_row("d", "test", 2, ["dog"]),
    make_row("e", "test", 2, []),
]


def test_the_figures_of_five_items() -> None:
    assert measure_items(ROWS, 4) == {
        "num_items": 5,
        "num_identifiers": 4,
        "num_shared_items": 2,
        "shared_percent": 40.0,
        "largest_group": 2,
        "num_without_keyword": 1,
        "num_keywords": 3,
        "num_items_by_length": {"0": 1, "1": 1, "2": 3},
        "alone_percent": {"0": 0.0, "1": 40.0, "2": 60.0},
        "cluster_size": {"smallest": 2, "median": 2.5, "largest": 3, "num_empty": 2},
        "bigram_entropy": 1.11,  # 8 log 2 / 5: behind "dog" 2 x log 2 and 2 x log 4, behind cluster 2 2 x log 2
    }


def test_words_in_a_steady_order_have_less_entropy() -> None:
    steady = [make_row(name, "test", 0, sorted(name)) for name in ("ab", "ac", "bc", "cb")]
    any_order = [make_row(name, "test", 0, list(name)) for name in ("ba", "ac", "bc", "cb")]
    assert bigram_entropy(steady) < bigram_entropy(any_order)
    assert bigram_entropy([make_row("a", "test", 3, ["x", "y"])] * 5) == 0
    # behind the cluster "x" or "y", behind "x" the end or "y": each step costs log 2 where there is a choice
    rows = [make_row("a", "test", 0, ["x"]), make_row("b", "test", 0, ["x", "y"])]
    assert bigram_entropy(rows) == pytest.approx(log(2))


def test_a_split_is_measured_as_if_the_others_did_not_exist() -> None:
    figures = measure_quality(ROWS, 4)
    assert list(figures) == ["all", "train", "test"]
    assert figures["test"]["num_shared_items"] == 0
    assert figures["test"]["alone_percent"] == {"0": 33.33, "1": 100.0, "2": 100.0}
    assert figures["train"]["cluster_size"]["num_empty"] == 3
    assert measure_quality([], 4) == {}


def test_phrases_that_read_the_same_are_not_told_apart() -> None:
    rows = [make_row("a", "test", 0, ["red circle", "star"]), make_row("b", "test", 0, ["red", "circle star"])]
    assert measure_items(rows, 1)["alone_percent"] == {"0": 0.0, "1": 100.0, "2": 0.0}


def test_identifiers_without_global_ids_have_no_clusters() -> None:
    rows = [make_row(row["item_id"], row["split"], NO_CLUSTER, row["lexical_id"]) for row in ROWS]
    figures = measure_items(rows, 0)
    assert figures["cluster_size"] == {"smallest": 0, "median": 0, "largest": 0, "num_empty": 0}
    assert figures["num_identifiers"] == len({tuple(row["lexical_id"]) for row in ROWS})


def test_items_without_a_keyword_are_listed() -> None:
    assert items_without_keyword(ROWS) == ["e"]


def test_the_report_says_what_was_left_out_and_how_clusters_were_fitted() -> None:
    report = {
        "protocol": "transductive",
        "encoder": "all-MiniLM-L6-v2",
        "seed": 7,
        "scheme": "structured",
        "global_id": True,
        "num_keywords": 2,
        "diversity": 0.7,
        "nr_candidates": None,
        "keyword_choice": "similarity",
        "keyword_order": "mention_rate",
        "mentions": {
            "train": {"num_sentences": 9, "words_per_sentence": 1.5, "percent_by_depth": {"1": 70.1, "2": 50.2}},
            "test": {"num_sentences": 7, "words_per_sentence": 0.9, "percent_by_depth": {"1": 60.3}},
        },
        "num_clusters": 1,
        "num_fitted": 4,
        "captions": {"num_images": 6, "num_captioned": 5, "missing": ["f"], "num_unknown": 3},
        "t2i": measure_quality(ROWS, 4),
        "i2t": {},
        "without_keyword": {"t2i": ["e"], "i2t": []},
        "clusters": [{"num_fitted": 4, "words": ["dog", "grass"]}],
    }
    text = render_report(report, {Direction.T2I: ROWS, Direction.I2T: []}, introduce_keywords(report))
    for part in (
        "protocol **transductive**",
        "the captions of **all** splits (4)",
        "5 of 6 images have a caption. Without one, and so without an identifier: 1 (f).",
        "3 captions belong to no image of the dataset",
        "diversity 0.7",
        "the most mentioned first",
        "| all | 5 | 4 | 2 (40.0 %) | 2 | 1 | 3 | 2 / 2.5 / 3 | 2 | 1.11 |",
        "| train | 70.1 | 50.2 | 1.5 | 9 |",
        "| test | 60.3 |  | 0.9 | 7 |",
        "No keyword left, so nothing behind the cluster: 1 (e).",
        r"| `c` | test | `<\|cluster_0\|>dog ball` |",
        r"| `<\|cluster_0\|>` | 4 | dog, grass |",
    ):
        assert part in text
    assert "Image to text" not in text


def test_no_module_of_identifiers_imports_torch() -> None:
    code = (
        "import importlib, pkgutil, sys, semcore.identifiers as package\n"
        "names = [module.name for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.')]\n"
        "for name in names: name.endswith('.rqvae') or importlib.import_module(name)\n"  # it trains
        "print(len(names))\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'sentence_transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 9
