"""TREC files: the order survives everyone's reading, and broken ids and files are named."""

import random
from pathlib import Path

import ir_measures
import pytest
from ir_measures import RR, Success

from semcore.evaluation.metrics import retrieval_metrics
from semcore.evaluation.trec import (
    rankings,
    read_qrels,
    read_run,
    strictly_decreasing,
    write_qrels,
    write_run,
)
from semcore.runtime.errors import UserError


def test_a_run_is_written_as_trec_eval_wants_it(tmp_path: Path) -> None:
    write_run(tmp_path / "run.trec", {"q1": [("b", -0.5), ("a", -1.25)], "q2": [("c", 3.0)]}, tag="generated")
    assert (tmp_path / "run.trec").read_text() == (
        "q1 Q0 b 1 -0.5 generated\nq1 Q0 a 2 -1.25 generated\nq2 Q0 c 1 3.0 generated\n"
    )


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    run = {"q1": [("b", -0.5), ("a", -1.25)], "q2": [("ü", 3.0)]}
    qrels = {"q1": {"a", "b"}, "q2": {"ü"}}
    write_run(tmp_path / "run.trec", run)
    write_qrels(tmp_path / "qrels.trec", qrels)
    assert read_run(tmp_path / "run.trec") == run
    assert read_qrels(tmp_path / "qrels.trec") == qrels
    assert sorted(path.name for path in tmp_path.iterdir()) == ["qrels.trec", "run.trec"]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_survives_ties_and_32_bits(tmp_path: Path, seed: int) -> None:
    """Scores that are equal, or equal only after trec_eval's rounding, or not even falling."""
    rng = random.Random(seed)
    run = {}
    for number in range(30):
        items = [f"item{i}" for i in rng.sample(range(100), 20)]
        run[f"q{number}"] = [(item, rng.choice([-1.0, -1.0 - 1e-12, -1.0 + 1e-12, 0.0, -1e-30, 7e9])) for item in items]
    qrels = {query: {rng.choice(hits)[0]} for query, hits in run.items()}
    write_run(tmp_path / "run.trec", run)
    write_qrels(tmp_path / "qrels.trec", qrels)
    assert rankings(read_run(tmp_path / "run.trec")) == rankings(run)

    peer = ir_measures.calc_aggregate(
        [Success @ 1, Success @ 5, RR @ 10],
        list(ir_measures.read_trec_qrels(str(tmp_path / "qrels.trec"))),
        list(ir_measures.read_trec_run(str(tmp_path / "run.trec"))),
    )
    ours = retrieval_metrics(rankings(run), qrels, num_items=100)
    assert ours["R@1"] == pytest.approx(100 * peer[Success @ 1])
    assert ours["R@5"] == pytest.approx(100 * peer[Success @ 5])
    assert ours["MRR@10"] == pytest.approx(peer[RR @ 10])


def test_falling_scores_are_kept() -> None:
    assert [float(score) for score in strictly_decreasing([2.5, 0.0, -0.125])] == [2.5, 0.0, -0.125]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_a_score_that_has_no_place_in_an_order_is_refused(tmp_path: Path, score: float) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        write_run(tmp_path / "run.trec", {"q": [("a", score)]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("identity", ["", "a b", "a\tb", "a\n", "a\u2003b"])
def test_ids_that_would_shift_the_columns_are_refused(tmp_path: Path, identity: str) -> None:
    with pytest.raises(UserError, match="rename it in metadata.jsonl"):
        write_run(tmp_path / "run.trec", {"q": [(identity, 1.0)]})
    with pytest.raises(UserError, match="has white space in it"):
        write_qrels(tmp_path / "qrels.trec", {identity: {"a"}})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    write_run(path, {"q": [("a", 1.0)]})
    before = path.read_text()
    with pytest.raises(UserError):
        write_run(path, {"q": [("b", 1.0)], "bad id": [("a", 1.0)]})
    assert path.read_text() == before


def test_ties_in_a_foreign_run_are_read_as_trec_eval_reads_them(tmp_path: Path) -> None:
    (tmp_path / "run.trec").write_text("q Q0 a 1 0.5 x\nq Q0 b 2 0.5 x\nq Q0 c 3 0.9 x\n")
    assert rankings(read_run(tmp_path / "run.trec")) == {"q": ["c", "b", "a"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 a 1 0.5 x\nq Q0 a 0.5 x\n", r"run.trec, line 2: 'q Q0 a 0.5 x' is not 'query Q0 item rank score tag'"),
        ("q Q0 a 1 high x\n", r"run.trec, line 1: 'q Q0 a 1 high x' is not"),
    ],
)
def test_a_broken_run_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.trec").write_text(text)
    with pytest.raises(UserError, match=message):
        read_run(tmp_path / "run.trec")


def test_broken_and_missing_qrels_are_named(tmp_path: Path) -> None:
    (tmp_path / "qrels.trec").write_text("q 0 a yes\n")
    with pytest.raises(UserError, match=r"qrels.trec, line 1: 'q 0 a yes' is not 'query 0 item relevance'"):
        read_qrels(tmp_path / "qrels.trec")
    with pytest.raises(UserError, match="there is no such file"):
        read_qrels(tmp_path / "none.trec")


def test_items_judged_irrelevant_are_not_relevant(tmp_path: Path) -> None:
    (tmp_path / "qrels.trec").write_text("q 0 a 1\nq 0 b 0\n")
    assert read_qrels(tmp_path / "qrels.trec") == {"q": {"a"}}
