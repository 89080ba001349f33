import pytest

from semcore.data.dataset import SPLITS, load_dataset
from semcore.data.directions import Direction
from semcore.data.identifier_files import make_row
from semcore.data.items_and_queries import draw_queries, items_by_id, num_identifiers, read_items, read_queries
from semcore.data.run_folder import RunFolder
from semcore.runtime import long_lists
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_jsonl, write_jsonl


@pytest.fixture
def run(tiny_dataset, tmp_path):
    """Identifiers of all but the last image and of all sentences."""
    folder = RunFolder(tmp_path / "run")
    records = load_dataset(tiny_dataset).images
    images = [make_row(record.image_id, record.split, 1, ["red", "dog"]) for record in records[:-1]]
    sentences = [make_row(s.sentence_id, record.split, 2, ["cat"]) for record in records for s in record.sentences]
    write_jsonl(folder / "identifiers" / "t2i.jsonl", images)
    write_jsonl(folder / "identifiers" / "i2t.jsonl", sentences)
    return folder


def read_both(run, dataset, split):
    return [read_items(run, dataset, direction, split) for direction in Direction]


def test_images_and_sentences_are_items(run, tiny_dataset):
    images, sentences = read_both(run, load_dataset(tiny_dataset), "val")
    assert [(item.item_id, item.image_id, item.identifier, item.keywords) for item in images] == [
        ("tiny-3", "tiny-3", "<|cluster_1|>red dog", "red dog")
    ]
    assert images[0].image_path == tiny_dataset / "images" / "tiny-3.png"
    assert [(item.item_id, item.image_id, item.text) for item in sentences] == [
        ("tiny-3-0", "tiny-3", "a yellow circle on white"),
        ("tiny-3-1", "tiny-3", "circle number 3, yellow"),
    ]
    assert len(read_items(run, load_dataset(tiny_dataset), Direction.I2T)) == 12


def test_queries_without_an_answer_in_the_index_stay_queries(run, tiny_dataset):
    """tiny-5 has no identifier: its sentences find nothing, but it can ask for them."""
    dataset = load_dataset(tiny_dataset)
    images, sentences = read_both(run, dataset, "test")
    t2i, i2t = (read_queries(dataset.split("test"), direction, images, sentences) for direction in Direction)
    assert list(t2i.contents) == ["tiny-4-0", "tiny-4-1", "tiny-5-0", "tiny-5-1"]
    assert t2i.contents["tiny-4-0"] == "a purple circle on white"
    assert t2i.relevant == {
        "tiny-4-0": {"tiny-4"}, "tiny-4-1": {"tiny-4"}, "tiny-5-0": {"tiny-5"}, "tiny-5-1": {"tiny-5"},
    }  # fmt: skip
    assert t2i.unanswerable == {"tiny-5-0", "tiny-5-1"}
    assert i2t.contents == {"tiny-4": "tiny-4", "tiny-5": "tiny-5"}
    assert i2t.display["tiny-5"] == "images/tiny-5.png"
    assert i2t.relevant == {image: {f"{image}-0", f"{image}-1"} for image in ("tiny-4", "tiny-5")}
    assert i2t.unanswerable == set()


def test_sentences_without_identifiers_are_no_answers(run, tiny_dataset):
    """One of two is left of tiny-4, none of tiny-5."""
    dataset = load_dataset(tiny_dataset)
    images, sentences = read_both(run, dataset, "test")
    i2t = read_queries(dataset.split("test"), Direction.I2T, images, sentences[:1])
    assert i2t.relevant == {"tiny-4": {"tiny-4-0"}, "tiny-5": {"tiny-5-0", "tiny-5-1"}}
    assert i2t.unanswerable == {"tiny-5"}


def test_an_unreadable_image_is_a_query_that_is_not_searched(run, tiny_dataset):
    dataset = load_dataset(tiny_dataset)
    images, sentences = read_both(run, dataset, "test")
    t2i, i2t = (
        read_queries(dataset.split("test"), direction, images, sentences, {"tiny-5"}) for direction in Direction
    )
    assert set(i2t.contents) == {"tiny-4"}
    assert set(i2t.relevant) == set(i2t.display) == {"tiny-4", "tiny-5"}
    assert i2t.unanswerable == {"tiny-5"}
    assert len(t2i.contents) == 4
    only = i2t.only(["tiny-5"])
    assert (only.contents, set(only.relevant), only.unanswerable) == ({}, {"tiny-5"}, {"tiny-5"})


def test_sentences_under_two_images_of_the_split_are_counted(run, tiny_dataset):
    path = tiny_dataset / "metadata.jsonl"
    rows = list(read_jsonl(path))
    rows[1]["sentences"][0]["text"] = rows[0]["sentences"][1]["text"] = rows[0]["sentences"][0]["text"]
    rows[4]["sentences"][0]["text"] = rows[0]["sentences"][0]["text"]
    write_jsonl(path, rows)
    dataset = load_dataset(tiny_dataset)
    for split, count in (("train", 3), ("test", 0)):
        images, sentences = read_both(run, dataset, split)
        for direction in Direction:
            queries = read_queries(dataset.split(split), direction, images, sentences)
            assert queries.num_shared_sentences == count


def test_identifiers_of_another_dataset_are_refused(run, tiny_dataset):
    path = run / "identifiers" / "t2i.jsonl"
    write_jsonl(path, [*read_jsonl(path), make_row("stranger", "test", 0, [])])
    with pytest.raises(UserError, match="has 'stranger', which is not in .* that belong together"):
        read_items(run, load_dataset(tiny_dataset), Direction.T2I)


def test_many_items_and_queries_are_those_of_few(run, tiny_dataset, monkeypatch):
    def everything():
        dataset, found = load_dataset(tiny_dataset), []
        for split in (None, *SPLITS):
            images, sentences = read_both(run, dataset, split)
            records = dataset.images if split is None else dataset.split(split)
            found += [list(images), list(sentences), list(records)]
            for direction in Direction:
                items = images if direction.items_are_images else sentences
                found += [list(items_by_id(items).items()), num_identifiers(items_by_id(items))]
                found += [read_queries(records, direction, images, sentences, most=most) for most in (None, 2, 99)]
        return [*found, dict(dataset.image_paths), dataset.fingerprint]

    few = everything()
    monkeypatch.setattr(long_lists, "IN_MEMORY", 1)
    assert not isinstance(load_dataset(tiny_dataset).images, list)
    assert everything() == few


@pytest.mark.parametrize("most", [1, 3, 5, 7, 12])
def test_queries_are_drawn_as_they_are_read(run, tiny_dataset, most):
    dataset = load_dataset(tiny_dataset)
    images, sentences = read_both(run, dataset, None)
    for direction in Direction:
        everything = read_queries(dataset.images, direction, images, sentences, {"tiny-4"})
        assert read_queries(dataset.images, direction, images, sentences, {"tiny-4"}, most) == draw_queries(
            everything, most
        )
