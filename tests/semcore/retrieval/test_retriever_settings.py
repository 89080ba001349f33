from __future__ import annotations

import shutil
from typing import Any

import pytest

from semcore import Retriever
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.models.lineage import made_from, write_lineage
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from tests.run_fixtures import SearchableRun

CPU: dict[str, Any] = {"dtype": "float32", "device": "cpu", "split": "test"}
QUERY = "a red circle"


def found(retriever: Retriever, **options: Any) -> list[tuple[str, float]]:
    return [(hit.item_id, hit.score) for hit in retriever.search(text=QUERY, **options)]


@pytest.fixture(scope="module")
def retriever(finished_training: SearchableRun, tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    run = shutil.copytree(finished_training.run, tmp_path_factory.mktemp("settings") / "run")
    return Retriever.from_run(run, **CPU)


@pytest.mark.parametrize("verifier", ["listwise", "likelihood", "none"])
@pytest.mark.parametrize("prior_weight", ["fit", 0.5])
@pytest.mark.parametrize("num_beams", [3, 20])
def test_other_settings_find_what_a_run_opened_with_them_finds(
    retriever: Retriever, searchable_run: SearchableRun, verifier: Any, prior_weight: Any, num_beams: int
) -> None:
    settings: dict[str, Any] = {"verifier": verifier, "prior_weight": prior_weight, "num_beams": num_beams}
    opened = Retriever.from_run(searchable_run.run, **CPU, **settings)
    assert found(retriever.with_settings(**settings), top_k=3) == found(opened, top_k=3)


def test_models_and_indexes_are_shared_and_the_first_stays_as_it_was(retriever: Retriever) -> None:
    before = found(retriever)
    other = retriever.with_settings(verifier="none", prior_weight=1.0, num_beams=2)
    assert found(other, top_k=2) != before[:2]
    assert other.generator is retriever.generator
    assert other.items(Direction.T2I) is retriever.items(Direction.T2I)
    assert (retriever.verifier, retriever.num_beams) == ("listwise", 20)
    assert found(retriever) == before
    wider = retriever.with_settings(num_beams=50)
    assert wider._verifier_with({}) is retriever._verifier_with({}), "a verifier is loaded once"
    assert found(wider.with_settings(verifier="listwise", num_beams=20)) == before


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"verifier": "overlap"}, "^there is no verifier 'overlap'; choose one of "),
        ({"verifier": "blocks"}, "^there is no model in .*verifier_model_blocks; train it with "),
        ({"prior_weight": 2.0}, "^prior_weight must be fit, or a number from 0 to 1, found 2.0$"),
    ],
)
def test_what_cannot_be_is_named(retriever: Retriever, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        retriever.with_settings(**settings)


def test_another_verifiers_lineage_is_checked(searchable_run: SearchableRun) -> None:
    retriever = Retriever.from_run(searchable_run.run, verifier="likelihood", **CPU)
    prompts = searchable_run.run / "verifier_model" / "prompts.json"
    write_json(prompts, dict.fromkeys(read_json(prompts), "0" * 64))
    with pytest.raises(UserError, match="prompts"):
        retriever.with_settings(verifier="listwise")
    allowed = retriever.with_settings(verifier="listwise", allow_mismatch=["prompts"])
    assert {mismatch.kind for mismatch in allowed.mismatches} == {"prompts"}
    assert retriever.mismatches == []


def test_a_verifier_of_one_direction_is_refused_in_the_other(searchable_run: SearchableRun) -> None:
    blocks = shutil.copytree(searchable_run.run / "verifier_model", searchable_run.run / "verifier_model_blocks")
    retriever = Retriever.from_run(searchable_run.run, verifier="listwise", **CPU)
    record = made_from(retriever.run, load_dataset(searchable_run.data))
    write_lineage(blocks, {**record, "directions": ["i2t"]})
    assert found(retriever)
    with pytest.raises(UserError, match="was trained for image to text"):
        found(retriever.with_settings(verifier="blocks", allow_mismatch=["prompts"]))
