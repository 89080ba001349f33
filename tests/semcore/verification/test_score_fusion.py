import numpy as np
import pytest
from scipy.optimize import check_grad

from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from semcore.verification import Fusion, fit_fusion
from semcore.verification.calibration import Calibration
from semcore.verification.conditional_logit import _cases, _loss
from semcore.verification.no_match_rule import NoMatchRule
from semcore.verification.score_fusion import (
    FusionSettings,
    read_fusion_settings,
    write_fusion_settings,
)


def draw(weights, num_queries=3000, num_candidates=6, seed=0):
    """Draw scores, and right candidates as the softmax of their weighted sum says."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(2, num_queries, num_candidates))
    logits = np.tensordot(weights, scores, axes=1)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    right = [rng.choice(num_candidates, p=row) for row in shares]
    return scores[0].tolist(), scores[1].tolist(), [[n == r for n in range(num_candidates)] for r in right]


def test_weights_are_recovered():
    fusion = fit_fusion(*draw([0.5, 1.5]))
    assert fusion.weight == pytest.approx(0.25, abs=0.03)
    assert fusion.temperature == pytest.approx(0.5, rel=0.1)


def test_a_useless_verifier_gets_no_weight():
    generator, verifier, right = draw([1.0, -0.5])
    assert fit_fusion(generator, verifier, right).weight == pytest.approx(1.0)


def test_weights_are_fitted_the_same_each_time():
    assert fit_fusion(*draw([0.5, 1.5], num_queries=50)) == fit_fusion(*draw([0.5, 1.5], num_queries=50))


def test_alone_the_order_is_the_verifiers_own():
    """The generator is better, and still says nothing."""
    generator, verifier, right = draw([3.0, 0.2], num_queries=200)
    fusion = fit_fusion(generator, verifier, right, alone=True)
    assert (fusion.weight, fusion.temperature) == (0.0, 1.0)
    assert fusion.fuse(generator[0], verifier[0]).tolist() == verifier[0]


def test_nothing_to_learn_from_leaves_the_default_weights():
    for right in ([True, True], [False, False]):
        fusion = fit_fusion([[0.0, 1.0]], [[1.0, 0.0]], [right])
        assert (fusion.weight, fusion.temperature) == (Fusion().weight, Fusion().temperature)
        (claimed,) = set(fusion.confidence([0.0, 0.0]))
        assert claimed == pytest.approx(0.75 if right[0] else 0.25)  # two cases and Platt's two
    assert fit_fusion([], [], []) == Fusion()
    assert Fusion().confidence([0.0, 1.0]) is None


def test_several_right_candidates_and_ragged_rows_have_the_right_gradient():
    columns = [[0.1, -1.0, 0.3], [0.5, 0.2]], [[1.0, 0.3, -0.2], [0.4, -0.9]]
    cases = _cases(columns, [[True, True, False], [False, True]])
    at = np.array([0.7, 1.3])
    assert check_grad(lambda w: _loss(w, cases)[0], lambda w: _loss(w, cases)[1], at) < 1e-6


def test_what_was_fitted_survives_the_file(tmp_path):
    calibration = Calibration(0.5, 1.0, -0.2, -0.1, 0.2, 0.3, -1.0)
    fitted = Fusion(0.3, 0.7, calibration, num_items=40, no_match=NoMatchRule("log_sum_exp", 6.5))
    fusions = {"pointwise": {"t2i": fitted}, "none": {"t2i": Fusion()}}
    fusion_settings = FusionSettings("pointwise", fusions, {"t2i": 4, "i2t": 2}, {"pointwise": "some/model"})
    write_fusion_settings(tmp_path / "verification.json", fusion_settings)
    assert read_fusion_settings(tmp_path / "verification.json") == fusion_settings
    written = read_json(tmp_path / "verification.json")["fusion"]
    assert written["pointwise"]["t2i"]["no_match"] == {"of": "log_sum_exp", "below": 6.5}
    assert written["none"]["t2i"]["no_match"] is None


@pytest.mark.parametrize(
    ("no_match", "by"), [(0.9975, "confidence"), ({"of": "score", "below": 3.0}, "score"), ({}, None)]
)
def test_a_rule_of_another_version_is_refused_with_the_command(tmp_path, monkeypatch, no_match, by):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "a run"
    (run / "t2i").mkdir(parents=True)
    (run / "metrics.json").touch()
    write_fusion_settings(run / "verification.json", FusionSettings("none", {"none": {"t2i": Fusion()}}))
    content = read_json(run / "verification.json")
    content["fusion"]["none"]["t2i"]["no_match"] = no_match
    write_json(run / "verification.json", content)
    with pytest.raises(UserError) as error:
        read_fusion_settings(run / "verification.json")
    assert str(error.value) == (
        f"{run}/verification.json decides what is no match by {by}, not by log_sum_exp: another version has written "
        "it; write it anew with `rm -r 'a run/t2i' 'a run/metrics.json' && semcore evaluate --run 'a run'`"
    )


def test_a_file_of_the_first_version_means_one_shift_and_the_runs_own_models(tmp_path):
    (tmp_path / "verification.json").write_text('{"verifier": "none", "fusion": {"none": {}}}')
    assert read_fusion_settings(tmp_path / "verification.json") == FusionSettings("none", {"none": {}})


@pytest.mark.parametrize(
    "broken",
    [
        {"fusion": []},
        *({"num_shifts": value} for value in (2, None, [2, 5], {"t2i": 0}, {"t2i": "x"}, {"t2i": 2.5}, {"t2i": True})),
    ],
)
def test_a_broken_file_is_named(tmp_path, broken):
    write_json(tmp_path / "verification.json", {"verifier": "none", "fusion": {"none": {}}, **broken})
    with pytest.raises(UserError, match="verification.json does not hold verifiers' weights"):
        read_fusion_settings(tmp_path / "verification.json")
