"""Definition of a study: STUDY.yaml, read and checked.

title: Beams on drawn scenes (paper, Table 5)
base: ../configs/scenes.yaml            settings of every stage; relative to this file
seeds: [0, 1, 2]                        of clusters and trainings, and of the scenes where they are drawn
scenes: {train: 1000, val: 100, test: 300}    drawn for each seed where no --data is given
model: OpenGVLab/InternVL3-1B-hf        the checkpoint; by default the scenes' own
stages: [caption, identifiers, train_identifier, evaluate]
settings: {evaluate: {verifier: likelihood}}      of all variants, over the base
reference: beams20                      the variant that others are compared with; by default the first
variants:
- {name: beams10, label: 10 beams, evaluate: {num_beams: 10}, paper: {R@1: 64.4, R@5: 76.5}}
- {name: beams20, label: 20 beams, evaluate: {num_beams: 20}, ranking: verified}
- {name: ranked, stages: [caption, identifiers, train_identifier, train_ranking, evaluate]}    own stages
tables:
- {title: Beams, variants: [beams10, beams20], axis: evaluate.num_beams}      semcore.study.tables has all keys
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from semcore.runtime.config_file import SECTIONS, read_yaml
from semcore.runtime.errors import UserError
from semcore.study.tables import METRICS, Ranking, Table, read_table
from semcore.study.yaml_checks import listed, mapping, number, one_of, refuse_unknown

DEFAULT_STAGES = tuple(stage for stage in SECTIONS if stage != "train_verifier_blocks")
SPLITS = ("train", "val", "test")
PROTOCOLS = ("inductive", "transductive")
Overrides = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Variant:
    """One row of a study.

    Attributes:
        name: name of its run folder, and in study.json.
        label: name in tables.
        overrides: stage -> dotted setting -> value, which override the study's.
        ranking: the ranking of its run that is scored: "verified", "generated", or "unverified" (generated, with an
            arbitrary suffix between items of one identifier); None takes the verified one where there is one.
        paper: metric -> the paper's figure, text to image.
        paper_protocol: "inductive" or "transductive", how that figure was reached; "" where the paper does not say.
        stages: the stages that run for it; None for the study's.
    """

    name: str
    label: str
    overrides: Overrides = field(default_factory=dict)
    ranking: Ranking | None = None
    paper: Mapping[str, float] = field(default_factory=dict)
    stages: Sequence[str] | None = None
    paper_protocol: str = ""


@dataclass(frozen=True)
class Study:
    """Variants x seeds; attributes as the keys of STUDY.yaml, see the module."""

    title: str
    base: Path
    variants: Sequence[Variant]
    reference: str
    tables: Sequence[Table]
    seeds: Sequence[int] = (0,)
    scenes: Mapping[str, int] | None = None
    model: str | None = None
    stages: Sequence[str] = DEFAULT_STAGES
    settings: Overrides = field(default_factory=dict)
    note: str = ""
    base_settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings in `base`, by stage."""

    def variant(self, name: str) -> Variant:
        """Return a variant by its name."""
        return next(variant for variant in self.variants if variant.name == name)

    def stages_of(self, variant: Variant) -> Sequence[str]:
        """Return the stages that run for a variant."""
        return self.stages if variant.stages is None else variant.stages

    @property
    def all_stages(self) -> list[str]:
        """Return the stages that run for any variant, in their order."""
        run = {stage for variant in self.variants for stage in self.stages_of(variant)} | set(self.stages)
        return [stage for stage in SECTIONS if stage in run]

    def resolve(self, variant: Variant, stage: str) -> dict[str, Any]:
        """Return the settings of a stage of a variant: dotted setting -> value; the base, the study's, its own."""
        return {
            **flatten(self.base_settings.get(stage) or {}),
            **self.settings.get(stage, {}),
            **variant.overrides.get(stage, {}),
        }

    def value_on_axis(self, variant: Variant, axis: str) -> float:
        """Return the number that a variant has for "stage.setting".

        Raises:
            UserError: neither the variant nor the study nor the base names one.
        """
        stage, _, setting = axis.partition(".")
        value = self.resolve(variant, stage).get(setting)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(
                f"the axis {axis} needs a number for variant {variant.name}, found {value!r}: "
                f"give it in the variant, in the study's settings or in {self.base}"
            )
        return value


def read_study(path: Path) -> Study:
    """Read and check STUDY.yaml.

    Raises:
        UserError: the file is missing or no YAML, or a value is invalid; names the key.
    """
    content = mapping(read_yaml(path), str(path))
    refuse_unknown(content, {own.name for own in fields(Study)} - {"base_settings"}, str(path))
    for key in ("title", "base", "variants"):
        if not content.get(key):
            raise UserError(f"{path} lacks {key!r}; semcore study --help shows what a study says")
    variants = [
        _variant(own, f"variant {number} of {path}")
        for number, own in enumerate(listed(content["variants"], f"variants of {path}"), 1)
    ]
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise UserError(f"two variants of {path} have one name, found {', '.join(names)}")
    given = listed(content.get("tables") or [], f"tables of {path}")
    tables = [read_table(own, names, f"table {number} of {path}") for number, own in enumerate(given, 1)]
    base = (path.parent / str(content["base"])).resolve()
    study = Study(
        title=str(content["title"]),
        base=base,
        base_settings=mapping(read_yaml(base), str(base)),
        variants=variants,
        reference=one_of(content.get("reference", names[0]), names, f"reference of {path}"),
        tables=tables or [Table(str(content["title"]), names)],
        seeds=_seeds(content.get("seeds", [0]), path),
        scenes=_scenes(content.get("scenes"), path),
        model=content.get("model"),
        stages=_stages(content.get("stages", list(DEFAULT_STAGES)), str(path)),
        settings=_overrides(content.get("settings") or {}, f"settings of {path}"),
        note=str(content.get("note", "")).strip(),
    )
    _check(study, path)
    return study


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as dotted key -> value."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, Mapping)
        flat.update(flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value})
    return flat


def _check(study: Study, path: Path) -> None:
    for variant in study.variants:
        if strange := [stage for stage in variant.overrides if stage not in study.stages_of(variant)]:
            raise UserError(
                f"variant {variant.name} of {path} changes {strange[0]}, which is none of the stages that run"
            )
    for table in study.tables:
        for axis in filter(None, (table.axis, table.lines)):
            for name in table.variants:
                study.value_on_axis(study.variant(name), axis)


def _variant(content: Any, where: str) -> Variant:
    own = mapping(content, where)
    refuse_unknown(own, {own.name for own in fields(Variant)} - {"overrides"} | set(SECTIONS), where)
    name = own.get("name")
    if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum():
        raise UserError(f"{where} needs a name of letters, digits, - and _, found {name!r}")
    paper = mapping(own.get("paper") or {}, f"paper of {where}")
    refuse_unknown(paper, METRICS, f"paper of {where}")
    ranking = own.get("ranking")
    if ranking is not None:
        one_of(ranking, get_args(Ranking), f"ranking of {where}")
    changed = _overrides({stage: own[stage] for stage in SECTIONS if stage in own}, where)
    stages = _stages(own["stages"], where) if "stages" in own else None
    label, figures = str(own.get("label", name)), {key: float(number(paper[key], f"{key} of {where}")) for key in paper}
    protocol = one_of(own["paper_protocol"], PROTOCOLS, f"paper_protocol of {where}") if "paper_protocol" in own else ""
    return Variant(name, label, changed, ranking, figures, stages, protocol)


def _overrides(content: Any, where: str) -> dict[str, dict[str, Any]]:
    stages = mapping(content, where)
    refuse_unknown(stages, SECTIONS, where)
    return {stage: flatten(mapping(own, f"{stage} of {where}")) for stage, own in stages.items()}


def _seeds(content: Any, path: Path) -> list[int]:
    numbers = content if isinstance(content, list) else [content]
    if not numbers or any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in numbers):
        raise UserError(f"seeds of {path} takes whole numbers from 0 on, found {content!r}")
    return list(dict.fromkeys(numbers))


def _scenes(content: Any, path: Path) -> dict[str, int] | None:
    if content is None:
        return None
    counts = mapping(content, f"scenes of {path}")
    refuse_unknown(counts, SPLITS, f"scenes of {path}")
    where = f"of the scenes of {path}"
    return {split: int(number(counts[split], f"{split} {where}", whole=True)) for split in SPLITS if split in counts}


def _stages(content: Any, where: str) -> list[str]:
    chosen = content if isinstance(content, list) else [content]
    for stage in chosen:
        one_of(stage, SECTIONS, f"stages of {where}")
    if "evaluate" not in chosen or "caption" not in chosen:
        raise UserError(f"stages of {where} need caption and evaluate among them, found {chosen}")
    return [stage for stage in SECTIONS if stage in chosen]
