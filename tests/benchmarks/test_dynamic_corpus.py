"""The benchmark of a corpus that grows: what is old and new, and that it measures what is searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import dynamic_corpus
from benchmarks.dynamic_corpus import Parts, _grow, _score, _shrink, query_of, split_parts
from semcore.data.dataset import Dataset, load_dataset
from semcore.data.directions import Direction
from semcore.models.captioning.local import Caption
from semcore.retrieval.item_maker import ItemMaker
from tests.growing_runs import draw
from tests.run_fixtures import SearchableRun


@pytest.mark.parametrize(("number", "percent", "batches"), [(10, 60, 4), (7, 50, 3), (100, 60, 4), (5, 10, 4)])
def test_all_images_come_once_and_in_order(number: int, percent: int, batches: int) -> None:
    images: list[Any] = list(range(number))
    parts = split_parts(images, percent, batches)
    assert [*parts.first, *(image for batch in parts.batches for image in batch)] == images
    sizes = [len(batch) for batch in parts.batches]
    assert len(sizes) == batches and max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)
    assert len(parts.first) == number * percent // 100


def test_a_score_counts_the_sentences_that_are_searched(finished_growing_run: SearchableRun) -> None:
    scenes = load_dataset(finished_growing_run.data)
    records = scenes.split("test")

    class Fake:
        def _corpus(self, direction: Direction) -> Any:
            return SimpleNamespace(items=range(99))

        def search(self, *, text: Any = None, image: Any = None, top_k: int) -> Any:
            if text is not None:  # every image at rank 2
                right = {query_of(record): record.image_id for record in records}
                return [[SimpleNamespace(item_id=own) for own in ("other", right[query])] for query in text]
            # The query that no corpus has is no answer.
            return [[SimpleNamespace(item_id=record.sentences[-1].sentence_id)] for record in records]

    fake: Any = Fake()
    texts = _score(fake, scenes, Direction.T2I, records)
    assert (texts["R@1"], texts["R@5"], texts["num_items"]) == (0, 100, 99)
    assert _score(fake, scenes, Direction.I2T, records)["R@10"] == 0


def test_a_run_grows_and_shrinks_back(
    growing_run: SearchableRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def caption(self: ItemMaker, pictures: Mapping[str, Path], *, progress: bool = False) -> list[Caption]:
        return [Caption(image_id, "ok", f"a thing like {image_id[-1]}") for image_id in pictures]

    monkeypatch.setattr(ItemMaker, "caption", caption)
    scenes = load_dataset(growing_run.data)
    old = scenes.split("train")[:4]
    new = [
        replace(
            own,
            image_id=f"later{n}",
            file_name=str(draw(tmp_path / f"{n}.png", n)),
            sentences=tuple(replace(s, sentence_id=f"later{n}-{s.sentence_id}") for s in own.sentences),
        )
        for n, own in enumerate(scenes.split("train")[4:8])
    ]
    parts, larger = Parts(old, [new[:2], new[2:]]), _with(scenes, new)
    grown, seconds = _grow(growing_run.run, larger, parts)
    assert [row.name for row in seconds] == [f"addition of batch {n}, per image" for n in (1, 2)]
    names = [
        f"{d.label}, after {n} of 2 batches, {g} items" for n in range(3) for d in Direction for g in ("old", "new")
    ]
    assert set(grown) == {name for name in names if "0 of" not in name or "old" in name}
    assert _shrink(growing_run.run, larger, parts) == grown  # one model, one corpus at each step


def test_an_identifier_that_changes_ends_the_benchmark(
    growing_run: SearchableRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(100))
    monkeypatch.setattr(dynamic_corpus, "_identifiers", lambda run, dataset: {"one": str(next(numbers))})
    scenes = load_dataset(growing_run.data)
    image = replace(scenes.images[0], image_id="later", file_name=str(draw(tmp_path / "a.png", 3)), sentences=())
    monkeypatch.setattr(ItemMaker, "caption", lambda self, pictures, progress: [Caption("later", "ok", "a red thing")])
    monkeypatch.setattr(dynamic_corpus, "_measure", lambda *given: {})
    with pytest.raises(dynamic_corpus.UserError, match="batch 1 has changed an identifier"):
        _grow(growing_run.run, _with(scenes, [image]), Parts([], [[image]]))


def _with(scenes: Dataset, images: list[Any]) -> Dataset:
    return replace(scenes, images=[*scenes.images, *images])


def test_the_tables_say_both_runs_after_each_batch() -> None:
    def scores(recall: float) -> dict[str, dict[str, float]]:
        return {
            f"{direction.label}, after {number} of 1 batches, {group} items": {
                **dict.fromkeys(dynamic_corpus.METRICS, recall + number),
                "num_items": 7.0 + number,
            }
            for direction in Direction
            for number in range(2)
            for group in ("old", "new")
            if number or group == "old"
        }

    title, _, header, _, first, second, *_ = dynamic_corpus.tables_of(scores(10.0), scores(20.0), 1).splitlines()
    assert title == f"{Direction.T2I.label}, %:"
    columns = [f"{group}, {metric}" for group in ("old", "new") for metric in dynamic_corpus.METRICS]
    assert header == f"| batches | items | {' | '.join(columns)} |"
    assert first == f"| 0 | 7 |{' 10.0 / 20.0 |' * 3}{' – |' * 3}"
    assert second == f"| 1 | 8 |{' 11.0 / 21.0 |' * 6}"
