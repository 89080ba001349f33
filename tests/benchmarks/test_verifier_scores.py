"""Benchmark of verifiers on finished runs: the copy that is evaluated again, and the rows of its figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import finished_run_verification
from benchmarks.verifier_scores import Settings, copy_run, order_rows, score_rows, second_rows
from semcore.commands import evaluate
from semcore.commands.evaluate import EvaluateSettings
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json


@pytest.fixture(scope="module")
def evaluated(finished_training, tmp_path_factory):
    """A run that was measured with both verifiers, and without the analyses that no row is of; not to be changed."""
    run = shutil.copytree(finished_training.run, tmp_path_factory.mktemp("evaluated") / "run")
    without = dict.fromkeys(("num_no_match_queries", "num_retention_queries", "num_exhaustive_queries"), 0)
    asked = {"verifier": "both", "num_beams": 10, "num_order_queries": 2, "ablations": False, **without}
    evaluate.main(EvaluateSettings(run=run, data=finished_training.data, **asked))
    return run


def test_a_finished_runs_verifiers_become_rows(evaluated, tmp_path):
    run = evaluated
    metrics = read_json(run / "metrics.json")
    (better,) = (row for row in score_rows([metrics]) if row.name == "text → image, likelihood, R@1")
    assert better.ours == pytest.approx(metrics["verifiers"]["likelihood"]["t2i"]["R@1"], abs=0.01)
    assert better.peer == pytest.approx(metrics["t2i"]["generated"]["R@1"], abs=0.01)
    assert {row.name: row.ours for row in second_rows([metrics])} == {
        "text → image, listwise, seconds": pytest.approx(metrics["seconds"]["listwise t2i test"], abs=0.01),
        "image → text, listwise, seconds": pytest.approx(metrics["seconds"]["listwise i2t test"], abs=0.01),
        "both directions and val, likelihood, seconds": pytest.approx(
            sum(metrics["seconds"][f"likelihood {which}"] for which in ("with the image", "without")), abs=0.01
        ),
    }
    measured = metrics["order_bias"]["t2i"][0]["rows"]
    assert len(order_rows([metrics])) == 2 * 3 * len(measured)

    before = (run / "manifest.json").read_text()
    copy_run(run, tmp_path / "copy")
    assert "evaluate" not in read_json(tmp_path / "copy" / "manifest.json")["stages"]
    assert not (tmp_path / "copy" / "metrics.json").exists()
    assert (tmp_path / "copy" / "verifier_model" / "model.safetensors").exists()
    assert (run / "manifest.json").read_text() == before


@pytest.mark.parametrize("runs", [[], [Path("a/seed-0"), Path("b/seed-0")]])
def test_copies_that_would_be_one_are_refused(runs, tmp_path):
    with pytest.raises(UserError, match="--runs takes folders of different names, one at least, found"):
        Settings(runs=runs, out=tmp_path)


def test_an_unfinished_run_is_not_copied(searchable_run, tmp_path):
    with pytest.raises(UserError, match="is no finished run; make it with: semcore quickstart --out"):
        copy_run(searchable_run.run, tmp_path / "copy")


def test_a_finished_runs_shortlists_are_timed_both_ways(evaluated, tmp_path):
    run, file = evaluated, tmp_path / "rows.json"
    finished_run_verification.main(finished_run_verification.Settings(run=run, json=file, num_queries=3, repeats=1))
    rows = json.loads(file.read_text())["rows"]
    names = ["listwise_t2i", "listwise_i2t", "likelihood_t2i", "likelihood_i2t", "listwise_and_likelihood"]
    assert [row["name"] for row in rows] == names
    assert rows[4]["ours"] == pytest.approx(
        30 * (rows[0]["ours"] + rows[2]["ours"]) + 6 * (rows[1]["ours"] + rows[3]["ours"])
    )
    assert all(row["ours"] > 0 and row["peer"] > 0 for row in rows)
