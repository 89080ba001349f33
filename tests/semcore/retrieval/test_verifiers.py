"""The registry of verifiers: every reader of it has all of them, and each can be found."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from benchmarks import readme_tables
from semcore.commands.verifier_models import VerifierModelSettings
from semcore.data.directions import Direction
from semcore.models.prompts import load_prompts
from semcore.models.run_lineage import PROMPTS, TRAINED
from semcore.models.verifier_registry import VERIFIERS, VerifierChoice, VerifierName
from semcore.report.tables import verifier_rows
from semcore.retrieval.verifiers import loader_of, scorer_of, verifier_scores

NAMES = tuple(VERIFIERS)


def test_whoever_asks_the_registry_has_every_verifier() -> None:
    assert set(PROMPTS) == {"generator", *NAMES}  # else its prompts are not in the lineage
    rows = verifier_rows({"verifiers": {name: {"t2i": {}} for name in NAMES}}, "t2i")
    assert [row.name for row in rows] == list(NAMES)
    assert [row.name for row in rows if not row.meaning] == []
    assert tuple(readme_tables.VERIFIERS) == NAMES == get_args(VerifierName)
    assert get_args(VerifierChoice) == (*NAMES, "both", "all", "none")
    assert TRAINED == ("generator", "listwise", "blocks")
    options = {f"{name}_model" for name in NAMES if name not in TRAINED}
    assert set(VerifierModelSettings.__dataclass_fields__) == options


@pytest.mark.parametrize("name", NAMES)
def test_a_verifiers_function_and_prompts_are_there(name: str) -> None:
    entry = VERIFIERS[name]
    assert callable(scorer_of(name))
    assert (loader_of(name) is None) == (entry.model != "named")
    assert set(entry.prompt_files()) <= set(load_prompts().sha256)
    assert bool(entry.what) == (entry.model == "named")


def test_the_prompts_are_those_of_their_directions() -> None:
    assert PROMPTS["listwise"] == PROMPTS["blocks"] == ("verify_t2i.jinja", "verify_i2t.jinja")
    assert PROMPTS["pointwise"] == ("verify_pointwise_t2i.jinja", "verify_pointwise_i2t.jinja")
    assert PROMPTS["likelihood"] == ("sentence_of_image.jinja", "sentence_alone.jinja")
    assert PROMPTS["dual"] == PROMPTS["itm"] == ()


def test_an_unknown_name_is_not_taken_for_another_verifier() -> None:
    session: Any = None
    with pytest.raises(KeyError, match="overlap"):
        verifier_scores("overlap", session, Direction.T2I, [])
