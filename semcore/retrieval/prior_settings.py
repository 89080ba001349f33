"""The record of an evaluation on the identifiers' prior: how much of it later searches take off. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from semcore.runtime.typed_commands import evaluate_anew

PRIOR_FILE = "prior.json"
PriorChoice = Literal["fit"] | float
"""How much of log p(identifier) to take off a score: as fitted on val, or a number from 0, the paper's, to 1."""


@dataclass(frozen=True)
class PriorSettings:
    """How much of the prior comes off, and what the prior is.

    Attributes:
        weights: direction -> the weight; a direction that is left out has 0.
        choice: "fit", or the number that was given.
        num_queries: training queries that the prior is the mean over, unless the model knows the null query.
        seed: of their draw.
        in_search: the prior comes off in the beam search already, not from what it has found.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    choice: PriorChoice = 0.0
    num_queries: int = 100
    seed: int = 0
    in_search: bool = False

    def weight(self, direction: Direction) -> float:
        """Return a direction's weight."""
        return self.weights.get(direction, 0.0)


def prior_settings_of(run: RunFolder, choice: PriorChoice, engine: str) -> PriorSettings:
    """Return the settings of a search: as the evaluation recorded them, or with the weight that is given.

    Raises:
        UserError: the weight is no such number, the record is broken, or the engine cannot search as it says.
    """
    check_prior_weight(choice, "prior_weight")
    path = run / PRIOR_FILE
    known = read_prior_settings(path) if path.exists() else PriorSettings(choice="fit")
    if known.in_search and engine != "semcore":
        raise UserError(f"{path} takes the prior off in the beam search, which engine {engine} cannot: choose semcore")
    if choice == "fit":
        return known
    return replace(known, weights=dict.fromkeys(map(str, Direction), float(choice)), choice=float(choice))


def check_prior_weight(choice: PriorChoice, name: str) -> None:
    """Refuse a weight that is neither "fit" nor from 0 to 1.

    Raises:
        UserError: it is not.
    """
    if choice != "fit" and not 0 <= float(choice) <= 1:
        raise UserError(f"{name} must be fit, or a number from 0 to 1, found {choice}")


def write_prior_settings(path: Path, settings: PriorSettings) -> None:
    """Write prior.json."""
    write_json(path, asdict(settings))


def read_prior_settings(path: Path) -> PriorSettings:
    """Read back what `write_prior_settings` wrote.

    Raises:
        UserError: the file is broken.
    """
    content = read_json(path)
    try:
        weights = {str(Direction(name)): float(weight) for name, weight in content.pop("weights").items()}
        settings = PriorSettings(weights, **content)
        check_prior_weight(settings.choice, "choice")
        return settings
    except (AttributeError, KeyError, TypeError, ValueError, UserError):
        raise UserError(
            f"{path} does not hold the prior's weights; write it anew with `{evaluate_anew(path.parent)}`"
        ) from None
