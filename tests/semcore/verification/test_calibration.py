"""Confidence is what it says: of hits with p, the share p is right, however many candidates are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import expit

from semcore.verification import Fusion, fit_fusion
from semcore.verification.calibration import Calibration, _features, _loss, _targets, fit_calibration
from semcore.verification.cross_fitting import cross_fit

NUM_CANDIDATES = 10


def draw(kind, num_queries, seed):
    """Draw scores and right candidates: of sentences none to five are right, of images one or none."""
    rng = np.random.default_rng(seed)
    scores, right = [], []
    for _ in range(num_queries):
        most = 1 if kind == "one right" else 5
        answers = np.zeros(NUM_CANDIDATES, dtype=bool)
        answers[rng.permutation(NUM_CANDIDATES)[: rng.integers(kind in ("separated", "no information"), most + 1)]] = 1
        distance = {"no information": 0.0, "separated": 12.0}.get(kind, 3.0)
        level = 0.0 if kind == "separated" else rng.normal(scale=2.0)  # what a query's scores have in common
        scores.append(level + distance * answers + rng.normal(size=NUM_CANDIDATES))
        right.append(answers.tolist())
    return scores, right


def claims(fusion, generator, verifier, right):
    """Return the confidence of every candidate, which are right, and both of the top hits."""
    own = [fusion.confidence(fusion.fuse(*row)) for row in zip(generator, verifier, strict=True)]
    top = [int(np.argmax(fusion.fuse(*row))) for row in zip(generator, verifier, strict=True)]
    first = [(row[place], truth[place]) for row, truth, place in zip(own, right, top, strict=True)]
    return np.concatenate(own), np.concatenate(right), *np.array(first).T


def calibration_error(claimed, truth, num_bins=10):
    """Return the expected calibration error: the mean distance of claim and truth over bins of equal width."""
    bins = np.minimum((claimed * num_bins).astype(int), num_bins - 1)
    gaps = [abs(claimed[bins == b].mean() - truth[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return sum(gaps)


@pytest.mark.parametrize("kind", ["one right", "several right", "separated", "no information"])
@pytest.mark.parametrize("order", ["generator only", "verifier only", "fused"])
def test_confidence_is_calibrated_on_queries_it_has_not_seen(kind, order):
    def scores_of(seed, count):
        scores, right = draw(kind, count, seed)
        nothing = [np.zeros(NUM_CANDIDATES) for _ in scores]
        noise = np.random.default_rng(seed + 7).normal(size=(count, NUM_CANDIDATES))
        both = {"generator only": (scores, nothing), "verifier only": (noise, scores), "fused": (noise, scores)}
        return *both[order], right

    fusion = fit_fusion(*scores_of(0, 500), alone=order == "verifier only")
    claimed, truth, top, top_truth = claims(fusion, *scores_of(1, 2000))
    assert calibration_error(claimed, truth) < 0.02
    assert calibration_error(top, top_truth) < 0.05
    assert top.mean() == pytest.approx(top_truth.mean(), abs=0.04)


def test_perfectly_separated_means_nearly_certain():
    """Five of ten sentences are right, always in front: each is right, though only one can be first."""
    rng = np.random.default_rng(0)
    right = [[True] * 5 + [False] * 5] * 500
    generator = [np.where(row, -1.0, -9.0) + rng.normal(scale=0.1, size=10) for row in right]
    fusion = fit_fusion(generator, [[0.0] * 10] * 500, right)
    confidence = np.array([fusion.confidence(fusion.fuse(own, [0.0] * 10)) for own in generator])
    assert confidence[:, :5].min() > 0.98
    assert confidence[:, 5:].max() < 0.02


def test_without_information_it_is_the_base_rate():
    scores, right = draw("no information", 1000, 0)
    fusion = fit_fusion(scores, [np.zeros(NUM_CANDIDATES)] * 1000, right)
    claimed, truth, *_ = claims(fusion, scores, [np.zeros(NUM_CANDIDATES)] * 1000, right)
    assert claimed == pytest.approx(truth.mean(), abs=0.04)


def test_a_query_without_a_right_candidate_is_noticed():
    """Where one stands out it is right; where none does, nothing is, though one is always first."""
    rng = np.random.default_rng(0)
    right = [[n % 2 == 0] + [False] * 9 for n in range(400)]
    scores = [rng.normal(size=10) + 10.0 * np.array(row) for row in right]
    calibration = fit_calibration(scores, right)
    tops = np.array([calibration.probabilities(own).max() for own in scores])
    assert tops[::2].min() > 0.8 and tops[::2].mean() > 0.97
    assert tops[1::2].max() < 0.2 and tops[1::2].mean() < 0.03


@pytest.mark.parametrize("num_queries", [1, 3, 50])
@pytest.mark.parametrize("sign", [1, -1])
def test_confidence_never_contradicts_the_order(num_queries, sign):
    """Even where val has taught that the better scores are wrong."""
    scores, right = draw("several right", num_queries, 3)
    calibration = fit_calibration([sign * own for own in scores], right)
    for own in np.random.default_rng(5).normal(scale=20.0, size=(50, NUM_CANDIDATES)):
        confidence = calibration.probabilities(np.sort(own))
        assert (np.diff(confidence) >= 0).all()
        assert (confidence >= 0).all() and (confidence <= 1).all()


def test_few_queries_claim_no_certainty():
    calibration = fit_calibration([np.array([5.0, -5.0])], [[True, False]])
    assert calibration.probabilities([-5.0, 5.0]).min() > 0.1
    assert calibration.probabilities([-5.0, 5.0]).max() < 0.9


def test_short_lists_and_none_have_a_confidence():
    scores = [np.array([1.0]), np.array([2.0, 0.0]), np.array([])]
    calibration = fit_calibration(scores, [[True], [True, False], []])
    assert np.isfinite(calibration.probabilities([3.0])).all()
    assert calibration.probabilities([]).shape == (0,)
    assert fit_calibration([np.array([])], [[]]) is None


def test_the_formula_is_the_documented_one():
    fused = np.array([1.0, 0.0, -1.0])
    shares = np.exp(fused) / np.exp(fused).sum()
    own = 0.2 * 1.0 - 0.4 * 1.0 + 0.6 * np.sqrt(2 / 3)
    own = own + 0.1 * np.array([1, 0, 0])  # the first
    logits = 0.3 + 0.5 * np.log(shares) + 0.7 * np.log(shares / (1 - shares)) + own
    assert Calibration(0.5, 0.7, 0.1, 0.2, -0.4, 0.6, 0.3).probabilities(fused) == pytest.approx(expit(logits))


def test_scores_far_apart_have_finite_features():
    """Log-probabilities of long sentences differ by hundreds."""
    assert np.isfinite(_features(np.array([0.0, -900.0, -2000.0]))).all()


def test_the_gradient_is_right():
    cases = np.column_stack([_features(np.array([0.3, -1.0, 2.0])), np.ones(3)])
    targets = _targets(np.array([True, False, False]))
    at = np.array([0.2, 0.5, 0.7, -0.3, 0.1, -0.2, 0.4])
    assert check_grad(lambda w: _loss(w, cases, targets)[0], lambda w: _loss(w, cases, targets)[1], at) < 1e-6


def test_cross_fitting_keeps_a_query_and_its_group_out():
    """A verifier that is right on every group but one: only that group's own fusion trusts it fully."""
    num_groups, rng = 5, np.random.default_rng(0)
    rows = [(group, number) for group in range(num_groups) for number in range(20)]
    right = [[number % 2 == 0, number % 2 == 1] for _, number in rows]
    generator = [rng.normal(size=2).tolist() for _ in rows]
    verifier = [
        [4.0 * (a if group else b), 4.0 * (b if group else a)] for (a, b), (group, _) in zip(right, rows, strict=True)
    ]
    names = [f"{group}-{number}" for group, number in rows]
    fusions = cross_fit(generator, verifier, right, contents=names, groups=[group for group, _ in rows])
    assert set(fusions) == set(names)
    per_group = [
        [fusions[name] for name, (own, _) in zip(names, rows, strict=True) if own == group] for group in range(5)
    ]
    assert all(fusion == own[0] for own in per_group for fusion in own)
    temperatures = [own[0].temperature for own in per_group]
    assert temperatures[0] < min(temperatures[1:])
    assert fusions["0-0"] == fit_fusion(generator[20:], verifier[20:], right[20:])


def test_a_single_group_is_ranked_with_nothing_fitted():
    fusions = cross_fit([[0.0, 1.0]], [[1.0, 0.0]], [[True, False]], contents=["q"], groups=["image"])
    assert fusions == {"q": Fusion()}


def test_equal_contents_share_a_fold():
    """What two images ask alike has one ranking: neither of them may have taught it."""
    generator, verifier = [[0.0, 1.0], [1.0, 0.0], [0.5, 0.2]], [[0.0, 0.0]] * 3
    right = [[True, False], [True, False], [False, True]]
    fusions = cross_fit(generator, verifier, right, contents=["same", "same", "other"], groups=["a", "b", "c"])
    assert fusions["same"] == fit_fusion(generator[2:], verifier[2:], right[2:])
