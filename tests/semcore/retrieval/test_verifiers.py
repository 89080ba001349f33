"""The names of the verifiers are kept in more places than one; none of them lacks a verifier."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from benchmarks.readme_tables import VERIFIERS
from semcore.data.directions import Direction
from semcore.models.run_lineage import PROMPTS
from semcore.report.tables import verifier_rows
from semcore.retrieval.verifiers import VerifierName, verifier_scores

NAMES = get_args(VerifierName)


def test_every_verifier_has_prompts_a_meaning_and_a_place_in_the_tables() -> None:
    assert set(PROMPTS) == {"generator", *NAMES}  # else its prompts are not in the lineage
    rows = verifier_rows({"verifiers": {name: {"t2i": {}} for name in NAMES}}, "t2i")
    assert [row.name for row in rows if not row.meaning] == []
    assert VERIFIERS == NAMES


def test_an_unknown_name_is_not_taken_for_the_listwise_verifier() -> None:
    unknown: Any = "overlap"
    session: Any = None
    with pytest.raises(AssertionError):
        verifier_scores(unknown, session, Direction.T2I, [])
