import pytest
from torch import zeros

from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.identifier_files import make_row
from semcore.data.items_and_queries import Item
from semcore.models.cluster_tokens import add_cluster_tokens
from semcore.models.prompts import load_prompts
from semcore.models.session import FeaturesInMemory, ModelSession
from semcore.models.tokenization import answer_tokens, tokenize
from semcore.retrieval.corpus import build_corpus
from semcore.runtime import long_lists
from semcore.runtime.errors import UserError
from semcore.training.held_out import HeldOut
from semcore.training.identifier_pairs import identifier_examples
from semcore.training.image_inputs import StoredFeatures
from semcore.training.null_queries import null_examples
from semcore.training.schedule import plan_identifier_rows

NOTHING = HeldOut(frozenset(), frozenset())


def rows_of(dataset):
    t2i = [
        make_row(r.image_id, r.split, n % 3, ["circle", "red", "dog"][: n % 4]) for n, r in enumerate(dataset.images)
    ]
    i2t = [
        make_row(s.sentence_id, r.split, n % 3, ["star", f"word{n}"])
        for n, r in enumerate(dataset.images)
        for s in r.sentences
    ]
    return {"t2i": t2i, "i2t": i2t}


@pytest.fixture
def lesson(tiny_checkpoint, tiny_dataset):
    dataset = load_dataset(tiny_dataset)
    add_cluster_tokens(tiny_checkpoint, 3, [[], [], []])
    prompts = load_prompts(special_tokens=tiny_checkpoint.special_tokens)
    visuals = StoredFeatures({r.image_id: zeros(16, 32) for r in dataset.images})

    def examples(images=None, identifiers=None, held_out=NOTHING, visuals=visuals):
        return identifier_examples(
            tiny_checkpoint.tokenizer, prompts, dataset.images if images is None else images,
            identifiers or rows_of(dataset), held_out, visuals,
        )  # fmt: skip

    return tiny_checkpoint, dataset, prompts, examples


def test_labels_are_the_sequences_of_the_index(lesson):
    checkpoint, dataset, prompts, examples = lesson
    t2i, i2t = examples()
    for direction, found in ((Direction.T2I, t2i), (Direction.I2T, [example for group in i2t for example in group])):
        rows = rows_of(dataset)[direction]
        items = [Item(row["item_id"], "", row["identifier"], "") for row in rows]
        index = build_corpus(ModelSession(checkpoint, prompts, FeaturesInMemory()), direction, items).index
        reached = {item_id for example in found for item_id in index.items(tuple(example.answer))}
        assert reached == {row["item_id"] for row in rows}


def test_keywords_of_several_words_are_reached_too(lesson):
    checkpoint, dataset, prompts, examples = lesson
    phrases = [["red circle", "dog park"], ["red", "circle dog park"], ["small red circle"]]
    t2i = [make_row(r.image_id, r.split, 0, phrases[n % 3]) for n, r in enumerate(dataset.images)]
    found, _ = examples(identifiers={**rows_of(dataset), "t2i": t2i})
    items = [Item(row["item_id"], "", row["identifier"], "") for row in t2i]
    index = build_corpus(ModelSession(checkpoint, prompts, FeaturesInMemory()), Direction.T2I, items).index
    reached = {frozenset(index.items(tuple(example.answer))) for example in found}
    equal = frozenset(f"tiny-{n}" for n in range(6) if n % 3 != 2)  # the first two phrases are the same words
    assert reached == {equal, frozenset({"tiny-2", "tiny-5"})}


def test_labels_are_tokenized_in_their_place_after_every_prompt(lesson):
    checkpoint, dataset, _, examples = lesson
    t2i, i2t = examples()
    identifiers = {row["item_id"]: row["identifier"] for rows in rows_of(dataset).values() for row in rows}
    expected = [identifiers[r.image_id] for r in dataset.images for _ in r.sentences]
    expected += [identifiers[s.sentence_id] for r in dataset.images for s in r.sentences]
    found = [*t2i, *(example for group in i2t for example in group)]
    assert len(found) == len(expected)
    for example, identifier in zip(found, expected, strict=True):
        prompt = checkpoint.tokenizer.decode(example.prompt)
        assert tokenize(checkpoint.tokenizer, prompt) == list(example.prompt)
        assert answer_tokens(checkpoint.tokenizer, prompt, identifier) == example.answer


def test_an_image_takes_its_visual_tokens(lesson):
    checkpoint, _, _, examples = lesson
    _, i2t = examples()
    assert i2t[0][0].prompt.count(checkpoint.model.config.image_token_id) == 16
    assert i2t[0][0].images == ("tiny-0",)


def test_held_out_queries_are_left_out(lesson):
    _, dataset, _, examples = lesson
    t2i, i2t = examples(held_out=HeldOut(frozenset({"tiny-0-1", "tiny-2-0"}), frozenset({"tiny-1"})))
    assert len(t2i) == 2 * len(dataset.images) - 2
    assert [group[0].images[0] for group in i2t] == [r.image_id for r in dataset.images if r.image_id != "tiny-1"]


def test_an_image_without_identifier_or_that_cannot_be_read_is_left_out(lesson):
    _, dataset, _, examples = lesson
    identifiers = rows_of(dataset)
    identifiers["t2i"] = [row for row in identifiers["t2i"] if row["item_id"] != "tiny-3"]
    t2i, i2t = examples(
        identifiers=identifiers, visuals=StoredFeatures({"tiny-0": zeros(16, 32), "tiny-3": zeros(16, 32)})
    )
    assert len(t2i) == 10
    assert [group[0].images for group in i2t] == [("tiny-0",)]


def test_nothing_to_train_on_is_said(lesson):
    _, _, _, examples = lesson
    with pytest.raises(
        UserError, match="there is nothing to train on: 0 training images, 0 of them with an identifier"
    ):
        examples(images=[])


def test_one_direction_alone_has_the_pairs_that_it_has_beside_the_other(lesson):
    _, dataset, _, examples = lesson
    both, rows = examples(), rows_of(dataset)
    assert examples(identifiers={"t2i": rows["t2i"]}, visuals=StoredFeatures({})) == (both[0], [])
    assert examples(identifiers={"i2t": rows["i2t"]}) == ([], both[1])


def test_many_pairs_are_those_of_few(lesson, monkeypatch):
    checkpoint, _, prompts, examples = lesson
    few = examples()
    monkeypatch.setattr(long_lists, "IN_MEMORY", 4)
    monkeypatch.setattr("semcore.training.identifier_pairs._PAIRS_AT_ONCE", 3)
    monkeypatch.setattr("semcore.training.identifier_pairs._MOST_ANSWERS", 2)
    many = examples()
    assert not isinstance(many[0], list) and not isinstance(many[1], list)
    assert list(many[0]) == few[0] and list(many[1]) == few[1]
    for fraction in (0.0, 0.4, 1.0):
        drawn = [null_examples(checkpoint.tokenizer, prompts, *pairs, fraction, seed=1) for pairs in (few, many)]
        assert drawn[0] == drawn[1]


def test_rows_of_many_pairs_are_those_of_few(lesson, monkeypatch):
    checkpoint, _, _, examples = lesson
    plan = {
        "image_start_id": checkpoint.tokenizer.convert_tokens_to_ids("<img>"), "max_tokens": 150, "num_epochs": 2,
        "batch_size": 2, "max_steps": None, "seed": 0,
    }  # fmt: skip
    few = list(plan_identifier_rows(*examples(), **plan))
    monkeypatch.setattr(long_lists, "IN_MEMORY", 4)
    assert list(plan_identifier_rows(*examples(), **plan)) == few and len(few) > 4
