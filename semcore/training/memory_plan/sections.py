"""Sections of a configuration file on the two trainings, read in the same way as by the recipes.

The recipes define these settings; a test compares every name and default with theirs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from semcore.data.directions import DirectionName
from semcore.identifiers.code_settings import CodeSettings, QuantizerSettings
from semcore.runtime.config_file import read_yaml
from semcore.runtime.errors import UserError
from semcore.training.objective_settings import LossSettings, QuerySettings, RankingSettings
from semcore.training.settings import (
    HeldOutSettings,
    IdentifierTrainingSettings,
    LoraSettings,
    ModelSettings,
    TrainingSettings,
    VerifierTrainingSettings,
)
from semcore.verification.block_layout import Attention

DEPTHS = 4
"""Of a tree of clusters, in a plan before there is one: more than enough for a million items with 30 branches."""
ELSEWHERE = {"identifiers": {"num_clusters": 128, "num_keywords": 4}, "candidates": {"num_candidates": 10}}


@dataclass
class IdentifierTraining:
    """Section `train_identifier`."""

    config: Path | None = None
    model: ModelSettings = field(default_factory=ModelSettings)
    directions: list[DirectionName] = field(default_factory=lambda: ["t2i", "i2t"])
    row_tokens: int = 512
    keep_features: bool = True
    queries: QuerySettings = field(default_factory=QuerySettings)
    losses: LossSettings = field(default_factory=LossSettings)
    held_out: HeldOutSettings = field(default_factory=HeldOutSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    training: IdentifierTrainingSettings = field(default_factory=IdentifierTrainingSettings)


@dataclass
class RankingTraining:
    """Section `train_ranking`."""

    config: Path | None = None
    directions: list[DirectionName] | None = None
    keep_features: bool = True
    search_batch_size: int = 32
    ranking: RankingSettings = field(default_factory=RankingSettings)
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(learning_rate=1e-4))


@dataclass
class VerifierModel:
    """Section `train_verifier.model`."""

    start: Literal["base", "identifier"] = "base"
    base: str | None = None
    freeze_vision: bool = True
    freeze_projector: bool = True
    trust_remote_code: bool = False


@dataclass
class VerifierTraining:
    """Section `train_verifier`."""

    config: Path | None = None
    directions: list[DirectionName] | None = None
    attention: Attention = "full"
    extra_questions: int = 4
    patience: int = 3
    keep_features: bool = True
    model: VerifierModel = field(default_factory=VerifierModel)
    lora: LoraSettings = field(default_factory=LoraSettings)
    training: VerifierTrainingSettings = field(default_factory=VerifierTrainingSettings)


def read_num_cluster_tokens(path: Path) -> int:
    """Return the number of new tokens of a configuration's identifiers.

    One per cluster, none without global ids; one per code, with hierarchical identifiers of `DEPTHS` depths; none for
    numbers and captions; of atomic ones, one an item, nothing is known here.

    Raises:
        UserError: the file has another type of value there.
    """
    num_clusters = read_elsewhere(path, "identifiers", "num_clusters")
    section = read_yaml(path).get("identifiers") or {}
    scheme = section.get("scheme", "structured")
    if scheme in ("string", "caption", "atomic") or section.get("global_id") is False:
        return 0
    if scheme == "hierarchical":
        return DEPTHS * section.get("branch", CodeSettings().branch)
    if scheme not in ("vokens", "coarse-fine"):
        return num_clusters
    own = {**asdict(QuantizerSettings()), **(section.get("quantizer") or {})}
    num_codes = own["num_codes"] * (1 if own["shared"] else own["num_levels"])
    return num_codes + (section.get("coarse", CodeSettings().coarse) if scheme == "coarse-fine" else 0)


def read_elsewhere(path: Path, section: str, key: str) -> Any:
    """Return an integer setting of another stage's section, or its default.

    Raises:
        UserError: the file has another type of value there.
    """
    values = read_yaml(path).get(section) or {}
    if not isinstance(values, dict):
        raise UserError(f"{section} in {path} is {values!r}; it needs lines such as 'key: value' below it")
    value = values.get(key, ELSEWHERE[section].get(key))
    if value is not None and (type(value) is not int or value < 1):
        raise UserError(f"{section}.{key} in {path} takes a whole number from 1 on, found {value!r}")
    return value
