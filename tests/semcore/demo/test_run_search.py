from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semcore import Retriever
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.new_images import NewImage
from semcore.demo.examples import NUM_EXAMPLES, choose_examples
from semcore.demo.page_queries import PageQuery
from semcore.demo.query_pictures import QueryPictures
from semcore.demo.run_search import RunSearch
from semcore.models.lineage import made_from, write_lineage
from semcore.retrieval.corpus_updates import add_images, remove_items
from semcore.retrieval.item_maker import ItemMaker
from semcore.runtime.errors import UserError
from tests.run_fixtures import SearchableRun

CPU: dict[str, Any] = {"dtype": "float32", "device": "cpu", "split": "test"}
RED, BLUE = PageQuery(text="a red circle"), PageQuery(text="there is a large blue star in the upper left.")


def open_search(run: Path, folder: Path, **options: Any) -> RunSearch:
    retriever = Retriever.from_run(run, **{**CPU, **options})
    return RunSearch(retriever, QueryPictures(retriever.dataset, folder / "pictures"))


@pytest.fixture(scope="module")
def search(finished_training: SearchableRun, tmp_path_factory: pytest.TempPathFactory) -> RunSearch:
    folder = tmp_path_factory.mktemp("search")
    opened = open_search(shutil.copytree(finished_training.run, folder / "run"), folder)
    opened.warm_up()
    return opened


@pytest.fixture
def an_image(search: RunSearch) -> str:
    return search.retriever.dataset.split("test")[0].image_id


def ids(search: RunSearch, query: PageQuery) -> list[str]:
    return [hit.item_id for hit in search.search(query).hits]


def test_both_directions_find_what_the_retriever_finds(search: RunSearch, an_image: str) -> None:
    retriever = Retriever.from_run(search.retriever.run.path, **CPU)
    assert ids(search, RED) == [hit.item_id for hit in retriever.search(text=RED.text)]
    path = search.retriever.dataset.image_paths[an_image]
    outcome = search.search(PageQuery(image=an_image))
    assert [hit.item_id for hit in outcome.hits] == [hit.item_id for hit in retriever.search(image=path)]
    assert (outcome.verifier, outcome.prior_weight, outcome.num_items) == ("listwise", 0.0, 30)
    assert outcome.notes and search.refused == {}


def test_settings_change_one_search_and_no_other(search: RunSearch) -> None:
    before = search.search(RED)
    narrow = search.search(replace(RED, num_beams=2, verifier="none", prior="1"))
    assert (narrow.verifier, narrow.prior_weight) == ("none", 1.0)
    assert len(narrow.hits) == 2
    again = search.search(RED)
    assert [(hit.item_id, hit.score) for hit in again.hits] == [(hit.item_id, hit.score) for hit in before.hits]
    assert search.search(replace(RED, verifier="likelihood")).hits[0].score != before.hits[0].score


def test_a_hit_is_explained_with_its_own_settings(search: RunSearch) -> None:
    query = replace(RED, num_beams=4, verifier="none")
    hit = search.search(query).hits[0]
    for _ in range(2):
        why = search.explain(query, hit.item_id)
        assert (why["rank"], why["item"]["item_id"], why["verifier"]) == (1, hit.item_id, None)
        assert why["generator"]["num_beams"] == 4
        search._kept.clear()  # it is searched once more
    with pytest.raises(UserError, match="^there is no hit 'other' of this query; search again$"):
        search.explain(query, "other")


def test_few_outcomes_are_kept(search: RunSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semcore.demo.run_search.NUM_KEPT", 2)
    for query in (RED, BLUE, replace(RED, verifier="none")):
        search.search(query)
    assert list(search._kept) == [BLUE.link, replace(RED, verifier="none").link]


def test_two_users_get_each_their_own_hits(search: RunSearch) -> None:
    queries = [RED, BLUE, replace(RED, verifier="none", num_beams=3), replace(BLUE, prior="1")]
    alone = [ids(search, query) for query in queries]
    together: dict[int, list[list[str]]] = {}

    def use(place: int) -> None:
        together[place] = [ids(search, queries[place]) for _ in range(3)]

    users = [threading.Thread(target=use, args=(place,)) for place in range(len(queries))]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert together == {place: [own] * 3 for place, own in enumerate(alone)}
    assert len({tuple(own) for own in alone}) > 1


def test_the_verifiers_that_a_run_has_can_be_chosen(search: RunSearch, searchable_run: SearchableRun) -> None:
    assert list(search.verifiers) == ["auto", "listwise", "likelihood", "none"]
    shutil.rmtree(searchable_run.run / "verifier_model")
    lean = open_search(searchable_run.run, searchable_run.run)
    assert list(lean.verifiers) == ["auto", "likelihood", "none"]
    assert lean.verifiers["auto"] == "as the run says: likelihood"
    with pytest.raises(UserError, match="^there is no verifier 'listwise' here; choose one of auto, likelihood, none$"):
        lean.search(replace(RED, verifier="listwise"))


def test_a_run_of_one_direction_is_searched_in_it(searchable_run: SearchableRun, tmp_path: Path) -> None:
    search = open_search(searchable_run.run, tmp_path, verifier="none")
    record = made_from(search.retriever.run, load_dataset(searchable_run.data))
    write_lineage(searchable_run.run / "identifier_model", {**record, "directions": ["t2i"]})
    search.warm_up()
    assert set(search.refused) == {Direction.I2T}
    assert search.search(RED).hits
    with pytest.raises(UserError, match="was trained for text to image"):
        search.search(PageQuery(image=search.retriever.dataset.images[0].image_id))
    examples = choose_examples(search, "test")
    assert examples.sentences and examples.pictures == []


def test_examples_are_of_the_run_and_always_the_same(search: RunSearch) -> None:
    dataset = search.retriever.dataset
    examples = choose_examples(search, None)
    texts = {sentence.text for record in dataset.split("test") for sentence in record.sentences}
    assert len(examples.sentences) == len(set(examples.sentences)) == len(examples.pictures) == NUM_EXAMPLES
    assert set(examples.sentences) <= texts
    assert {search.pictures.key_of(Path(path)) for path in examples.pictures} <= {
        record.image_id for record in dataset.split("test")
    }
    assert choose_examples(search, None) == examples
    assert choose_examples(search, "val") != examples


def test_a_dataset_of_one_image_with_one_sentence_has_one_example(
    search: RunSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = search.retriever.dataset
    record = dataset.split("test")[0]
    only = replace(record, sentences=record.sentences[:1])
    monkeypatch.setattr(search.retriever, "dataset", replace(dataset, images=[only]))
    examples = choose_examples(search, None)
    assert examples.sentences == [only.sentences[0].text] and len(examples.pictures) == 1


def test_a_run_whose_images_are_gone_is_searched_where_that_can_be(
    finished_training: SearchableRun, searchable_run: SearchableRun, tmp_path: Path
) -> None:
    data = shutil.copytree(finished_training.data, tmp_path / "data")
    shutil.rmtree(data / "images")
    (data / "images").mkdir()
    search = open_search(searchable_run.run, tmp_path, data=data, verifier="none")
    search.warm_up()
    assert len(search.search(RED).hits) == 6
    assert choose_examples(search, None).pictures == []
    with pytest.raises(UserError, match="^image .* is needed, but .* cannot be read now .there is no such file.; put"):
        search.search(replace(RED, verifier="listwise"))
    looking = open_search(searchable_run.run, tmp_path, data=data)
    looking.warm_up()
    assert set(looking.refused) == {Direction.T2I}


def test_what_is_added_and_removed_meanwhile_is_found_and_missed(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage], tmp_path: Path
) -> None:
    search = open_search(growing_run.run, tmp_path, split="all", verifier="listwise")
    alone = replace(RED, verifier="none")
    before, model = search.search(RED), search.retriever.generator.checkpoint.model
    search.search(alone)
    dataset = search.retriever.dataset
    with pytest.raises(UserError, match="^there is no image 'new-0' in the dataset"):
        search.search(PageQuery(image="new-0"))

    add_images(maker, new_images)
    remove_items(maker, [record.image_id for record in dataset.images[1:]])
    new = {image.image_id for image in new_images}
    for query in (RED, alone):
        outcome = search.search(query)
        assert {hit.item_id for hit in outcome.hits} == new | {dataset.images[0].image_id}
        assert outcome.num_items == 4 < before.num_items
        assert search.explain(query, "new-0")["item"]["item_id"] == "new-0"
    sentences = search.search(PageQuery(image="new-0", num_beams=100))
    assert "a huge red ring" in {hit.text for hit in sentences.hits}
    assert search.retriever.generator.checkpoint.model is model, "models stay loaded"


def test_a_corpus_that_cannot_be_read_leaves_the_items_as_they_were(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage], tmp_path: Path
) -> None:
    search = open_search(growing_run.run, tmp_path, split="all", verifier="none")
    before = search.search(RED)
    add_images(maker, new_images)
    with (growing_run.run / "corpus" / "changes.jsonl").open("a") as file:
        file.write("no change\n")
    assert [hit.item_id for hit in search.search(RED).hits] == [hit.item_id for hit in before.hits]
