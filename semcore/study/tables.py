"""Tables of a study, as STUDY.yaml defines them.

tables:
- title: Systems
  variants: [semcore, avg-unranked, avg]
  ranking: generated                    of all rows; by default each variant's own
  paper: false                          leaves out the papers' figures, where they are of another ranking
  costs: true                           a second table: identifiers, seconds, bytes, and what papers count
  against: semcore                      says which row is best in each direction, and by how much over this one
  expected:                             each becomes a sentence: as expected, within chance, or reversed beyond chance
  - {better: avg, worse: avg-unranked, metric: R@1, source: "AVG, section 4.5"}
- {title: Beams, variants: [beams10, beams20], axis: evaluate.num_beams}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args

from semcore.runtime.errors import UserError
from semcore.study.yaml_checks import listed, mapping, one_of, refuse_unknown

METRICS = ("R@1", "R@5", "R@10", "rSum@5")
Ranking = Literal["verified", "generated", "unverified"]


@dataclass(frozen=True)
class Expectation:
    """Two rows whose order somebody expects.

    Attributes:
        better: the variant that is expected to be above.
        worse: the one that is expected to be below.
        metric: that is compared, in each direction.
        source: whose expectation it is.
    """

    better: str
    worse: str
    metric: str = "R@1"
    source: str = ""


@dataclass(frozen=True)
class Table:
    """Some variants side by side.

    Attributes:
        title: its heading.
        variants: their names, in the order of the rows.
        axis: "stage.setting" whose values are the plot's horizontal axis.
        lines: "stage.setting" with a line of the plot for each of its values.
        ranking: the ranking that all rows are scored by; None takes each variant's own.
        paper: whether the papers' figures stand beside, and their order is compared.
        costs: whether a second table says what each row takes.
        against: the row that the best one is compared with; None for no such sentence.
        expected: pairs of rows whose order is expected.
    """

    title: str
    variants: Sequence[str]
    axis: str | None = None
    lines: str | None = None
    ranking: Ranking | None = None
    paper: bool = True
    costs: bool = False
    against: str | None = None
    expected: Sequence[Expectation] = ()


def read_table(content: Any, names: Sequence[str], where: str) -> Table:
    """Read one table; `names` are the study's variants, `where` names the place in messages.

    Raises:
        UserError: an unknown key, variant or metric, or no title.
    """
    own = mapping(content, where)
    known = {one.name: one.default for one in fields(Table)}
    refuse_unknown(own, known, where)
    if "title" not in own:
        raise UserError(f"{where} lacks a title")
    rows = [one_of(name, names, where) for name in listed(own.get("variants") or list(names), f"variants of {where}")]
    if own.get("ranking") is not None:
        one_of(own["ranking"], get_args(Ranking), f"ranking of {where}")
    if own.get("against") is not None:
        one_of(own["against"], rows, f"against of {where}")
    for key in ("axis", "lines"):
        if not isinstance(own.get(key) or "", str):
            raise UserError(f"{key} of {where} takes a setting such as evaluate.num_beams, found {own[key]!r}")
    for key in ("paper", "costs"):
        if not isinstance(own.get(key, False), bool):
            raise UserError(f"{key} of {where} takes true or false, found {own[key]!r}")
    pairs = listed(own.get("expected") or [], f"expected of {where}")
    expected = [_expectation(pair, rows, f"expected of {where}") for pair in pairs]
    rest = {key: own[key] for key, default in known.items() if key in own and default is not MISSING}
    return Table(str(own["title"]), rows, **{**rest, "expected": expected})


def _expectation(content: Any, rows: Sequence[str], where: str) -> Expectation:
    own = mapping(content, where)
    refuse_unknown(own, [one.name for one in fields(Expectation)], where)
    for key in ("better", "worse"):
        one_of(own.get(key), rows, f"{key} of {where}")
    if own["better"] == own["worse"]:
        raise UserError(f"{where} compares {own['better']} with itself; name two variants")
    metric = one_of(own.get("metric", "R@1"), METRICS, f"metric of {where}")
    return Expectation(own["better"], own["worse"], metric, str(own.get("source", "")))
