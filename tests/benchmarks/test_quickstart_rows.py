import pytest

from benchmarks.quickstart import Settings, closing_rows, cost_rows, gain_row, gain_rows, main, score_rows
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json


def metrics_of(generated: float, verified: float) -> dict:
    scores = {"R@1": generated, "R@5": 60.0, "R@10": 80.0, "rSum": generated + 140}
    better = {"R@1": verified, "R@5": 70.0, "R@10": 80.0, "rSum": verified + 150}
    both = {"generated": scores, "verified": better}
    both_directions = {"t2i": scores, "i2t": scores}
    ceiling = {"R@1": 80.0, "R@5": 95.0, "R@10": 100.0}
    return {
        "t2i": both,
        "i2t": both,
        "verifiers": {"likelihood": {"t2i": better, "i2t": better}},
        "verifiers_alone": {"likelihood": both_directions},
        "ceiling": {"t2i": ceiling, "i2t": ceiling},
        "ablations": {"without_trie": both_directions},
    }


def test_scores_are_means_over_seeds_beside_the_ceiling() -> None:
    rows = {row.name: row for row in score_rows([metrics_of(30, 50), metrics_of(40, 60)])}
    row = rows["text → image, generated, R@1"]
    assert (row.ours, row.peer, row.note) == (35.0, 80.0, "2 seeds: 30, 40")
    assert rows["image → text, verified, likelihood, R@1"].ours == 55.0
    assert rows["text → image, ceiling, rSum"].ours == 275.0


def test_a_verifiers_own_order_is_a_row_of_its_own() -> None:
    rows = {row.name: row.ours for row in score_rows([metrics_of(30, 50), metrics_of(40, 60)])}
    assert rows["text → image, likelihood alone, R@1"] == 35.0


def test_verification_closes_a_fraction_of_the_gap() -> None:
    rows = {row.name: row.ours for row in closing_rows([metrics_of(30, 55)])}
    assert rows["text → image, closed by verification"] == 50.0
    assert rows["text → image, without trie, R@1"] == 30.0


def test_costs_are_those_of_every_stage() -> None:
    names = ("caption", "identifiers", "train_identifier", "candidates", "train_verifier", "evaluate")
    seeds = [
        {name: {"seconds": taken, "peak_memory_bytes": peak} for name in names}
        for taken, peak in ((10, 2e9), (30, 4e9))
    ]
    rows = {row.name: row for row in cost_rows(seeds)}
    assert rows["caption, peak memory a process, GB"].ours == 3.0
    assert (rows["caption, seconds"].ours, rows["caption, seconds"].note) == (10, "seed 0's; of all 2 seeds: 10, 30")
    assert rows["all stages, seconds"].ours == 60.0


def test_runs_of_an_earlier_version_are_refused(tmp_path) -> None:
    write_json(tmp_path / "seed-0" / "metrics.json", metrics_of(30, 50))
    with pytest.raises(UserError, match="seed-0 was evaluated by an earlier version"):
        main(Settings(out=tmp_path, num_seeds=1))


def test_gains_have_the_interval_of_every_seed_and_of_their_mean() -> None:
    def seed(mean: float, chosen: str, other: str, less: dict) -> dict:
        change = {"R@1": {"mean": mean, "low": mean - 1, "high": mean + 1}}
        given = {direction: {"alone": change, "fused": change} for direction in ("t2i", "i2t")}
        return {
            "verifier": chosen,
            "verifiers": {"listwise": {}, "likelihood": {}},
            "verifiers_less_generated": {"listwise": given, "likelihood": given},
            "verifiers_less_chosen": {other: {direction: {"R@1": less} for direction in ("t2i", "i2t")}},
        }

    seeds = [
        seed(7, "likelihood", "listwise", {"mean": -2, "low": -3, "high": 0.5}),
        seed(4, "listwise", "likelihood", {"mean": -1, "low": -2, "high": 0.25}),
    ]
    rows = {row.name: row for row in gain_rows(seeds)}
    row = rows["image → text, listwise alone less generated, R@1"]
    assert (row.ours, row.note) == (5.5, "95 %: +4.8 to +6.2; 2 seeds: +7.0 (+6.0 to +8.0), +4.0 (+3.0 to +5.0)")
    row = rows["image → text, listwise less likelihood, R@1"]
    assert (row.ours, row.note) == (-0.5, "95 %: -1.5 to +0.5; 2 seeds: -2.0 (-3.0 to +0.5), +1.0 (-0.2 to +2.0)")
    assert (
        gain_row("one", [{"mean": 1.0, "low": 0.0, "high": 2.0}]).note
        == "95 %: +0.0 to +2.0; 1 seed: +1.0 (+0.0 to +2.0)"
    )
