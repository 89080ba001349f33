"""Score fusion: a weighted sum of the generator's and a verifier's scores, with calibration, both fitted on val.

The paper has no fusion: there the verifier alone decides, which is `alone`.
Shapes: queries have K candidates each, K may differ; scores are natural log-probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from semcore.runtime.typed_commands import evaluate_anew
from semcore.verification.calibration import Calibration, fit_calibration

FUSION_FILE = "verification.json"
RIDGE = 1e-3  # keeps the weights finite where every query is ranked correctly
SMALLEST = 1e-4

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Fusion:
    """fused = (weight * generator + (1 - weight) * verifier) / temperature.

    Attributes:
        weight: the generator's weight, 0 to 1; with 0 the order is the verifier's own.
        temperature: scales the fused scores so that their softmax is a probability.
        calibration: maps each candidate's score to a probability; None where nothing was fitted.
        num_items: the number of items searched when it was fitted; 0 where it is unknown.
    """

    weight: float = 0.5
    temperature: float = 0.5
    calibration: Calibration | None = None
    num_items: int = 0

    def fuse(self, generator: Sequence[float], verifier: Sequence[float]) -> Scores:
        """Return the fused score of each candidate, (K,)."""
        mixed = self.weight * np.asarray(generator) + (1 - self.weight) * np.asarray(verifier)
        return mixed / self.temperature

    def confidence(self, fused: Sequence[float] | Scores) -> list[float] | None:
        """Return each candidate's probability of being relevant, (K,); None where nothing was fitted.

        Several may be relevant, or none: the probabilities need not sum to one. Their order is that of the scores.
        """
        return None if self.calibration is None else self.calibration.probabilities(fused).tolist()


@dataclass(frozen=True)
class FusionSettings:
    """Fusions that an evaluation has fitted on val, with the verifier's settings that they belong to.

    Attributes:
        verifier: the verifier of the final ranking.
        fusions: verifier -> direction -> its fusion ("none": the generator alone).
        num_shifts: cyclic shifts that the listwise verifier was averaged over.
        models: verifier -> its checkpoint, where it was not the run's own.
    """

    verifier: str
    fusions: dict[str, dict[str, Fusion]]
    num_shifts: int = 1
    models: dict[str, str] = field(default_factory=dict)


def fit_fusion(
    generator: Sequence[Sequence[float]],
    verifier: Sequence[Sequence[float]],
    right: Sequence[Sequence[bool]],
    *,
    alone: bool = False,
) -> Fusion:
    """Fit weight and temperature by maximum likelihood of the relevant candidates, then the calibration.

    A conditional logit with two coefficients: p(candidate) is the softmax of the weighted sum, and the total
    probability of the relevant candidates is maximised. Without informative queries (every candidate relevant,
    or none) the defaults stay.

    Args:
        generator: the generator's log-probabilities, one row per query.
        verifier: the verifier's, in the same order; zeros where there is none.
        right: which candidates are relevant; any number of them.
        alone: leave the generator's score out, and fit the calibration only.
    """
    fusion = Fusion(0.0, 1.0) if alone else _fit_weights(generator, verifier, right)
    fused = [fusion.fuse(*scores) for scores in zip(generator, verifier, strict=True)]
    return replace(fusion, calibration=fit_calibration(fused, right))


def _fit_weights(
    generator: Sequence[Sequence[float]], verifier: Sequence[Sequence[float]], right: Sequence[Sequence[bool]]
) -> Fusion:
    features, truth, starts = _flatten(generator, verifier, right)
    if len(starts) == 0:
        return Fusion()
    start = np.ones(2)
    fitted = minimize(
        _loss, start, args=(features, truth, starts), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * 2
    ).x
    total = max(float(fitted.sum()), SMALLEST)
    return Fusion(float(fitted[0]) / total if total > SMALLEST else 0.5, 1 / total)


def write_fusion_settings(path: Path, fusion_settings: FusionSettings) -> None:
    """Write the fusion settings to verification.json."""
    plain = asdict(fusion_settings)
    fusion = plain.pop("fusions")
    write_json(path, {**plain, "fitted_on": "val", "fusion": fusion})


def read_fusion_settings(path: Path) -> FusionSettings:
    """Read the file that `write_fusion_settings` wrote.

    Raises:
        UserError: the file is missing or broken.
    """
    content = read_json(path)
    try:
        fusions = {
            name: {direction: _read_fusion(fusion) for direction, fusion in own.items()}
            for name, own in content["fusion"].items()
        }
        return FusionSettings(
            str(content["verifier"]), fusions, int(content.get("num_shifts", 1)), dict(content.get("models", {}))
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} does not hold verifiers' weights; write it anew with `{evaluate_anew(path.parent)}`"
        ) from None


def _read_fusion(content: Mapping[str, Any]) -> Fusion:
    calibration = content["calibration"]
    return Fusion(**{**content, "calibration": calibration and Calibration(**calibration)})


def _flatten(
    generator: Sequence[Sequence[float]], verifier: Sequence[Sequence[float]], right: Sequence[Sequence[bool]]
) -> tuple[Scores, NDArray[np.bool_], NDArray[np.int64]]:
    """Return features (candidates, 2), relevance (candidates,) and starts (queries,) of the informative queries."""
    kept = [number for number, row in enumerate(right) if any(row) and not all(row)]
    if not kept:
        return np.empty((0, 2)), np.empty(0, dtype=bool), np.empty(0, dtype=np.int64)
    features = np.stack(
        [
            np.concatenate([np.asarray(scores[number], dtype=np.float64) for number in kept])
            for scores in (generator, verifier)
        ],
        axis=1,
    )
    truth = np.concatenate([np.asarray(right[number], dtype=bool) for number in kept])
    starts = np.concatenate([[0], np.cumsum([len(right[number]) for number in kept])[:-1]]).astype(np.int64)
    return features, truth, starts


def _loss(
    weights: Scores, features: Scores, truth: NDArray[np.bool_], starts: NDArray[np.int64]
) -> tuple[float, Scores]:
    """Return the mean negative log-probability of the relevant candidates, and its gradient (2,)."""
    lengths = np.diff(np.append(starts, len(features)))
    scores = features @ weights
    scores = scores - np.repeat(np.maximum.reduceat(scores, starts), lengths)
    shares = np.exp(scores)
    among_all = shares / np.repeat(np.add.reduceat(shares, starts), lengths)
    hits = np.maximum(np.add.reduceat(among_all * truth, starts), 1e-300)
    among_right = among_all * truth / np.repeat(hits, lengths)
    gradient = features.T @ (among_all - among_right) / len(starts) + 2 * RIDGE * weights
    return float(-np.log(hits).mean() + RIDGE * weights @ weights), gradient
