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
from scipy.special import logsumexp

from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from semcore.runtime.typed_commands import evaluate_anew
from semcore.verification.calibration import Calibration, fit_calibration
from semcore.verification.conditional_logit import fit_conditional_logit
from semcore.verification.no_match_rule import NoMatchRule, require_present_rule, rule_of_data

FUSION_FILE = "verification.json"
SMALLEST = 1e-4
UNFITTED = 0.5
"""The weight of a further score where nothing was fitted, as that of the other two."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Fusion:
    """fused = (weight * generator + (1 - weight) * verifier + further scores by their weights) / temperature.

    Attributes:
        weight: the generator's weight, 0 to 1; with 0 the order is the verifier's own.
        temperature: scales the fused scores so that their softmax is a probability.
        calibration: maps each candidate's score to a probability; None where nothing was fitted.
        num_items: the number of items searched when it was fitted; 0 where it is unknown.
        further: weights of further scores by their names, 0 or more: of a search's guide, of dense vectors.
        no_match: when a query counts as one without an answer; None where nothing was fitted.
    """

    weight: float = 0.5
    temperature: float = 0.5
    calibration: Calibration | None = None
    num_items: int = 0
    further: dict[str, float] = field(default_factory=dict)
    no_match: NoMatchRule | None = None

    def fuse(
        self,
        generator: Sequence[float],
        verifier: Sequence[float],
        further: Mapping[str, Sequence[float]] | None = None,
    ) -> Scores:
        """Return the fused score of each candidate, (K,).

        Args:
            generator: log-probabilities (K,).
            verifier: its scores (K,).
            further: name -> scores (K,); those without a weight count nothing.
        """
        mixed = self.weight * np.asarray(generator) + (1 - self.weight) * np.asarray(verifier)
        for name, scores in (further or {}).items():
            mixed = mixed + self.further.get(name, 0.0) * np.asarray(scores)
        return mixed / self.temperature

    def confidence(self, fused: Sequence[float] | Scores) -> list[float] | None:
        """Return each candidate's probability of being relevant, (K,); None where nothing was fitted.

        Several may be relevant, or none: the probabilities need not sum to one. Their order is that of the scores.
        """
        return None if self.calibration is None else self.calibration.probabilities(fused).tolist()


def log_sum_exp(fused: Sequence[float] | Scores) -> float:
    """Return the logarithm of the sum of the exponentials of fused scores (K,), one or more.

    >>> round(log_sum_exp([3.0, 3.0]), 2), round(log_sum_exp([3.0, -3.0]), 2)
    (3.69, 3.0)
    """
    return float(logsumexp(np.asarray(fused, dtype=np.float64)))


@dataclass(frozen=True)
class FusionSettings:
    """Fusions that an evaluation has fitted on val, with the verifier's settings that they belong to.

    Attributes:
        verifier: the verifier of the final ranking.
        fusions: verifier -> direction -> its fusion ("none": the generator alone).
        num_shifts: direction -> cyclic shifts that the listwise verifier was averaged over; 1 by default.
        models: verifier -> its checkpoint, where it was not the run's own.
        prior_weights: direction -> how much of the identifiers' prior was off the generator's score; 0 by default.
    """

    verifier: str
    fusions: dict[str, dict[str, Fusion]]
    num_shifts: dict[str, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    prior_weights: dict[str, float] = field(default_factory=dict)


def fit_fusion(
    generator: Sequence[Sequence[float]],
    verifier: Sequence[Sequence[float]],
    right: Sequence[Sequence[bool]],
    *,
    further: Mapping[str, Sequence[Sequence[float]]] | None = None,
    alone: bool = False,
) -> Fusion:
    """Fit weight and temperature by maximum likelihood of the relevant candidates, then the calibration.

    A conditional logit with a coefficient for each score: p(candidate) is the softmax of the weighted sum, and the
    total probability of the relevant candidates is maximised. Without informative queries (every candidate relevant,
    or none) the defaults stay.

    Args:
        generator: the generator's log-probabilities, one row per query.
        verifier: the verifier's, in the same order; zeros where there is none.
        right: which candidates are relevant; any number of them.
        further: name -> further scores in the same order.
        alone: leave all scores but the verifier's out, and fit the calibration only.
    """
    more = {} if alone else dict(further or {})
    fusion = Fusion(0.0, 1.0) if alone else _fit_weights(generator, verifier, right, more)
    fused = [
        fusion.fuse(*scores, {name: own[query] for name, own in more.items()})
        for query, scores in enumerate(zip(generator, verifier, strict=True))
    ]
    return replace(fusion, calibration=fit_calibration(fused, right))


def _fit_weights(
    generator: Sequence[Sequence[float]],
    verifier: Sequence[Sequence[float]],
    right: Sequence[Sequence[bool]],
    further: Mapping[str, Sequence[Sequence[float]]],
) -> Fusion:
    fitted = fit_conditional_logit((generator, verifier, *further.values()), right)
    if fitted is None:
        return Fusion(further=dict.fromkeys(further, UNFITTED))
    total = max(float(fitted[:2].sum()), SMALLEST)
    weight = float(fitted[0]) / total if total > SMALLEST else 0.5
    others = {name: float(own) / total for name, own in zip(further, fitted[2:], strict=True)}
    return Fusion(weight, 1 / total, further=others)


def write_fusion_settings(path: Path, fusion_settings: FusionSettings) -> None:
    """Write the fusion settings to verification.json."""
    plain = asdict(fusion_settings)
    plain.pop("fusions")
    fusion = {
        name: {direction: fusion_as_data(own) for direction, own in directions.items()}
        for name, directions in fusion_settings.fusions.items()
    }
    write_json(path, {**plain, "fitted_on": "val", "fusion": fusion})


def read_fusion_settings(path: Path) -> FusionSettings:
    """Read the file that `write_fusion_settings` wrote.

    Raises:
        UserError: the file is missing or broken, or of a version that decides otherwise what is no match.
    """
    content = read_json(path)
    try:
        for fusion in (fusion for own in content["fusion"].values() for fusion in own.values()):
            require_present_rule(path, fusion.get("no_match"))
        fusions = {
            name: {direction: fusion_of_data(fusion) for direction, fusion in own.items()}
            for name, own in content["fusion"].items()
        }
        return FusionSettings(
            str(content["verifier"]),
            fusions,
            _num_shifts(content.get("num_shifts", {})),
            dict(content.get("models", {})),
            {direction: float(weight) for direction, weight in content.get("prior_weights", {}).items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} does not hold verifiers' weights, or those of another version; "
            f"write it anew with `{evaluate_anew(path.parent)}`"
        ) from None


def _num_shifts(content: Mapping[str, Any]) -> dict[str, int]:
    if not all(type(count) is int and count >= 1 for count in content.values()):
        raise ValueError("a number of shifts is a whole number from 1 on")
    return dict(content)


def fusion_as_data(fusion: Fusion) -> dict[str, Any]:
    """Return a fusion as plain data; where there are no further scores, nothing is said of them."""
    plain = asdict(fusion)
    return plain if fusion.further else {name: value for name, value in plain.items() if name != "further"}


def fusion_of_data(content: Mapping[str, Any]) -> Fusion:
    """Return the fusion of `fusion_as_data`."""
    calibration = content["calibration"]
    parts = {
        "calibration": calibration and Calibration(**calibration),
        "no_match": rule_of_data(content.get("no_match")),
    }
    return Fusion(**{**content, **parts})
