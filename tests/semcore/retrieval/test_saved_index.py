"""An index is built once for what determines it, and never used for anything else."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import read_items
from semcore.data.run_folder import RunFolder
from semcore.decoding import IdentifierIndex
from semcore.models.checkpoint import load_checkpoint
from semcore.models.prompts import load_prompts
from semcore.models.session import FeaturesInMemory, ModelSession
from semcore.retrieval import corpus as corpus_module
from semcore.retrieval.corpus import build_corpus, corpus_key
from semcore.retrieval.saved_index import ABANDONED_S, SavedIndexes, index_folder, index_key
from semcore.runtime.packaged_files import resource_folder

Open = Callable[..., IdentifierIndex]


@pytest.fixture(scope="module")
def generator(finished_training: Any) -> Any:
    return load_checkpoint(finished_training.run / "identifier_model")


@pytest.fixture(scope="module")
def items(finished_training: Any) -> list[Any]:
    return list(read_items(RunFolder(finished_training.run), load_dataset(finished_training.data), Direction.T2I))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of items of every index that is built from token sequences."""
    numbers: list[int] = []
    build = corpus_module._build_index

    def counted(checkpoint: Any, prompt: str, items: Any) -> IdentifierIndex:
        numbers.append(len(items))
        return build(checkpoint, prompt, items)

    monkeypatch.setattr(corpus_module, "_build_index", counted)
    return numbers


@pytest.fixture
def open_index(generator: Any, items: list[Any], run: RunFolder) -> Open:
    def open_index(
        checkpoint: Any = generator,
        prompts: Any = None,
        direction: Direction = Direction.T2I,
        items: list[Any] = items,
        corpus: str = "t2i-all",
    ) -> IdentifierIndex:
        prompts = prompts or load_prompts(special_tokens=checkpoint.special_tokens)
        session = ModelSession(checkpoint, prompts, FeaturesInMemory())
        return build_corpus(session, direction, items, SavedIndexes(run, corpus)).index

    return open_index


def folders(run: RunFolder) -> list[Path]:
    return sorted((run / "index").iterdir())


def test_the_second_start_builds_nothing(open_index: Open, built: list[int], items: list[Any]) -> None:
    first = open_index()
    second = open_index()
    assert built == [len(items)]
    assert second.fingerprint == first.fingerprint
    assert second.sequences() == first.sequences()
    assert [second.items(own) for own in second.sequences()] == [first.items(own) for own in first.sequences()]


def test_a_saved_index_is_mapped_into_memory(open_index: Open, run: RunFolder) -> None:
    open_index()
    index = open_index()
    [folder] = folders(run)
    maps = Path("/proc/self/maps").read_text()
    assert str(folder) in maps
    assert index.trie.nbytes > 0


def test_whatever_determines_the_tokens_is_in_the_key(
    open_index: Open, built: list[int], generator: Any, items: list[Any], tmp_path: Path
) -> None:
    open_index()
    prompts_folder = tmp_path / "prompts"
    prompts_folder.mkdir()
    for path in resource_folder("prompts").glob("*.jinja"):
        text = path.read_text()
        (prompts_folder / path.name).write_text(f"Well. {text}" if path.name == "identify_t2i.jinja" else text)
    retokenized = replace(generator, tokenizer=copy.deepcopy(generator.tokenizer))
    retokenized.tokenizer.add_tokens(["red"])
    renamed = [replace(items[0], identifier=items[0].identifier + " moon"), *items[1:]]
    others: dict[str, dict[str, Any]] = {
        "prompt": {"prompts": load_prompts(prompts_folder, special_tokens=generator.special_tokens)},
        "tokenizer": {"checkpoint": retokenized},
        "direction": {"direction": Direction.I2T},
        "an item that came later": {"items": [*items, replace(items[0], item_id="later")]},
        "another identifier": {"items": renamed},
        "another order": {"items": items[::-1]},
        "fewer items": {"items": items[:-1]},
    }
    for number, (what, options) in enumerate(others.items(), start=2):
        index = open_index(**options, corpus=f"other-{number}")
        assert len(built) == number, what
        assert index.fingerprint == open_index(**options).fingerprint
        assert len(built) == number, what
    assert index.items(index.sequences()[0])
    open_index()
    assert len(built) == len(others) + 1


def test_the_end_token_is_in_the_key(generator: Any) -> None:
    keys = {index_key(generator.tokenizer, "prompt", end, [("a", "red")]) for end in (1, 2)}
    assert len(keys) == 2


def test_items_and_identifiers_cannot_be_taken_for_each_other(generator: Any) -> None:
    rows = ([("a", "b"), ("c", "d")], [("a", "bc"), ("", "d")], [("ab", ""), ("c", "d")], [("a", "b")])
    assert len({index_key(generator.tokenizer, "prompt", 1, own) for own in rows}) == len(rows)


def test_of_each_corpus_one_index_is_kept(open_index: Open, run: RunFolder, items: list[Any]) -> None:
    open_index(items=items[:3], corpus="t2i-test")
    open_index()
    before = folders(run)
    assert len(before) == 2
    grown = [*items, replace(items[0], item_id="later")]
    open_index(items=grown)
    assert len(folders(run)) == 2
    assert len(set(folders(run)) & set(before)) == 1
    open_index(items=items[:3], corpus="t2i-test")
    assert len(folders(run)) == 2


def test_what_a_killed_process_left_is_removed_once_it_is_old(open_index: Open, run: RunFolder) -> None:
    for name, age in ((".new.1.incomplete", 0), (".old.1.incomplete", ABANDONED_S + 60)):
        folder = run / "index" / name
        folder.mkdir(parents=True)
        os.utime(folder, (folder.stat().st_mtime - age,) * 2)
    open_index()
    assert [path.name for path in folders(run) if path.name.startswith(".")] == [".new.1.incomplete"]


@pytest.mark.parametrize("damage", ["cut short", "a bit turned", "no note", "note cut short", "another's note"])
def test_a_damaged_index_is_built_again_and_said(
    open_index: Open, built: list[int], run: RunFolder, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    fingerprint = open_index().fingerprint
    [folder] = folders(run)
    index, note = folder / "identifiers.safetensors", folder / "index.json"
    content = bytearray(index.read_bytes())
    if damage == "cut short":
        index.write_bytes(content[:-10])
    elif damage == "a bit turned":
        content[-9] ^= 1
        index.write_bytes(content)
    elif damage == "no note":
        note.unlink()
    elif damage == "note cut short":
        note.write_text(note.read_text()[:20])
    else:
        note.write_text(note.read_text().replace(folder.name, "0" * 32))
    assert open_index().fingerprint == fingerprint
    assert len(built) == 2
    assert str(folder) in caplog.text and "built again" in caplog.text
    caplog.clear()
    assert open_index().fingerprint == fingerprint
    assert len(built) == 2 and not caplog.text


def test_a_run_that_cannot_be_written_to_is_searched(
    open_index: Open, built: list[int], run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    run.path.write_text("a file where the folder would be: so root cannot write there either")
    caplog.set_level(logging.WARNING)
    assert open_index().fingerprint == open_index().fingerprint
    assert len(built) == 2 and not caplog.text


def test_a_kept_index_goes_only_as_a_whole(
    open_index: Open, built: list[int], run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that fails half way leaves nothing that a later start could take for an index."""

    def fail(self: IdentifierIndex, path: Path) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(IdentifierIndex, "save", fail)
        open_index()
    assert folders(run) == []
    open_index()
    assert len(built) == 2


def test_a_key_names_the_folder(open_index: Open, run: RunFolder, generator: Any, items: list[Any]) -> None:
    open_index()
    prompts = load_prompts(special_tokens=generator.special_tokens)
    key = corpus_key(ModelSession(generator, prompts, FeaturesInMemory()), Direction.T2I, items)
    assert folders(run) == [index_folder(run, key)]


def test_a_tokenizer_without_a_fast_form_has_a_key_too() -> None:
    from transformers import ByT5Tokenizer

    plain, other = ByT5Tokenizer(extra_ids=0), ByT5Tokenizer(extra_ids=5)
    assert not plain.is_fast
    keys = [index_key(tokenizer, "", 1, []) for tokenizer in (plain, ByT5Tokenizer(extra_ids=0), other)]
    assert keys[0] == keys[1] != keys[2]
