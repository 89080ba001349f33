"""The benchmark of a million items: its corpus is one the product reads, and what it says of the costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.importing import Cost
from benchmarks.million import rows, stages, table_of
from benchmarks.million_corpus import image_id, make_source
from data_prep import from_karpathy, identifiers
from semcore.data.dataset import load_dataset
from semcore.data.identifier_files import read_identifiers
from semcore.runtime import long_lists


def test_identifiers_are_made_from_the_embeddings_that_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_encoder(*given: Any) -> Any:
        raise AssertionError("an embedding is not where it is looked for")

    monkeypatch.setattr(long_lists, "IN_MEMORY", 100)
    monkeypatch.setattr(identifiers, "load_encoder", no_encoder)
    source, data, run = tmp_path / "source", tmp_path / "data", tmp_path / "run"
    source.mkdir()
    make_source(source, 400)
    from_karpathy.main(from_karpathy.Settings(json=source / "dataset.json", images=source / "images", out=data))
    records = load_dataset(data).images
    assert [record.image_id for record in records] == [image_id(number) for number in range(400)]
    assert all(8 <= len(record.sentences[0].text.split()) <= 14 for record in records)
    run.mkdir()
    (source / "captions.jsonl").rename(run / "captions.jsonl")
    identifiers.main(identifiers.Settings(run=run, data=data, embeddings=source / "embeddings", num_clusters=4))
    assert [len(read_identifiers(run / "identifiers", direction)) for direction in ("t2i", "i2t")] == [400, 400]


def test_the_rows_say_what_grows() -> None:
    small, large = {"import": Cost(2.0, 100 * 2**20, 1.0)}, {"import": Cost(30.0, 150 * 2**20, 10.0)}
    time, memory, growth = rows([1_000, 10_000], small, large)
    assert (time.ours, memory.ours, growth.ours) == (30.0, 150 * 2**20, 1.5)
    assert table_of([1_000, 10_000], small, large).splitlines()[2] == "| import | 10 | 1000 | 100 | 150 | 1.50 |"


def test_every_stage_is_a_command_of_this_repository(tmp_path: Path) -> None:
    commands = stages(tmp_path, 5)
    assert commands["index, built and saved"] == commands["index, mapped into memory"]
    assert json.dumps(commands).count("semcore.commands.cli") == 3
    for command in commands.values():
        program = command[2] if command[1] == "-m" else command[1]
        assert program in ("data_prep.from_karpathy", "data_prep.identifiers", "semcore.commands.cli") or (
            Path(program).is_file()
        )
