import json
from collections import Counter
from dataclasses import replace

import pytest
from torch import zeros

from semcore.data.dataset import ImageRecord, Sentence
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.models.prompts import load_prompts
from semcore.models.tokenization import IMAGE_START
from semcore.runtime.errors import UserError
from semcore.training.image_inputs import StoredFeatures
from semcore.training.packing import merge
from semcore.training.schedule import plan_question_rows
from semcore.training.verifier_questions import CandidateSet, QuestionMaker, QuestionSeed, read_candidates
from semcore.verification.option_logits import LETTERS, option_tokens

NAMES = [f"i{n}" for n in range(10)]
IMAGES = {name: Item(name, name, "", f"words of {name}") for name in NAMES}
# The image i0 has two sentences among the candidates of i2t: both are right.
SENTENCES = {
    f"s{n}": Item(f"s{n}", name, "", "words", text=f"sentence {n}") for n, name in enumerate(["i0", *NAMES[:9]])
}
RECORDS = [ImageRecord(name, "", "train", (Sentence(f"t{name}", f"about {name}"),), "") for name in NAMES]
T2I = CandidateSet(Direction.T2I, "the query", "i3", tuple(IMAGES.values()))
I2T = CandidateSet(Direction.I2T, "i0", "i0", tuple(SENTENCES.values()))


@pytest.fixture
def make(tiny_checkpoint):
    prompts = load_prompts(special_tokens=tiny_checkpoint.special_tokens)
    visuals = StoredFeatures({name: zeros(16, 32) for name in NAMES})

    def maker(num_extra=0, visuals=visuals):
        return QuestionMaker(tiny_checkpoint.tokenizer, prompts, RECORDS, visuals, num_extra)

    return maker


def chosen(tokenizer, example, candidates):
    """The item that an example's letter stands for, read from the prompt itself."""
    letter = LETTERS[option_tokens(tokenizer).index(example.answer[0])]
    if candidates.direction == "t2i":
        return candidates.items[0].item_id and example.images[LETTERS.index(letter)]
    text = tokenizer.decode(example.prompt)
    line = next(line for line in text.splitlines() if line.startswith(f"{letter}. Sentence: "))
    return next(item.image_id for item in candidates.items if f"{item.text};" in line)


@pytest.mark.parametrize("candidates", [T2I, I2T])
def test_the_letter_is_the_right_candidates(tiny_checkpoint, make, candidates):
    for seed in range(30):
        [example] = make()(QuestionSeed(candidates, str(seed)))
        assert chosen(tiny_checkpoint.tokenizer, example, candidates) == candidates.image_id
        assert len(example.answer) == 1


@pytest.mark.parametrize("candidates", [T2I, I2T])
def test_every_letter_is_right_equally_often(make, candidates):
    counts = Counter(make()(QuestionSeed(candidates, str(seed)))[0].answer[0] for seed in range(300))
    assert len(counts) == 10
    assert max(counts.values()) < 60


def test_a_seed_gives_the_same_questions(make):
    assert make(3)(QuestionSeed(T2I, "1")) == make(3)(QuestionSeed(T2I, "1"))
    assert make(3)(QuestionSeed(T2I, "1")) != make(3)(QuestionSeed(T2I, "2"))


def test_further_questions_ask_for_other_candidates(tiny_checkpoint, make):
    examples = make(4)(QuestionSeed(T2I, "0"))
    assert len(examples) == 5
    asked = [tiny_checkpoint.tokenizer.decode(example.prompt) for example in examples]
    assert "the query" in asked[0]
    for example, text in zip(examples[1:], asked[1:], strict=True):
        assert f"about {chosen(tiny_checkpoint.tokenizer, example, T2I)}\n" in text
    assert len({example.answer[0] for example in examples[1:]}) == 4
    assert len({example.images for example in examples}) == 1, "the candidates are read once"


def test_half_of_the_further_questions_ask_for_the_same_image(tiny_checkpoint, make, monkeypatch):
    told = tuple(Sentence(f"x{n}", f"also {n}") for n in range(4))
    monkeypatch.setitem(
        globals(), "RECORDS", [replace(r, sentences=told) if r.image_id == "i3" else r for r in RECORDS]
    )
    examples = make(6)(QuestionSeed(T2I, "0"))
    texts = [tiny_checkpoint.tokenizer.decode(example.prompt) for example in examples]
    answers = [chosen(tiny_checkpoint.tokenizer, example, T2I) for example in examples]
    assert answers[:4] == ["i3"] * 4
    assert len({text for text in texts[:4] if "also " in text}) == 3
    assert "i3" not in answers[4:]


def test_further_questions_of_i2t_are_images(tiny_checkpoint, make):
    examples = make(20)(QuestionSeed(I2T, "0"))
    assert sorted(example.images[0] for example in examples) == NAMES[:9]
    for example in examples:
        assert chosen(tiny_checkpoint.tokenizer, example, I2T) == example.images[0]


@pytest.mark.parametrize(("candidates", "shared", "own"), [(T2I, 10, 0), (I2T, 0, 5)])
def test_a_row_reads_the_candidates_once(tiny_checkpoint, make, candidates, shared, own):
    row = merge(make(4)(QuestionSeed(candidates, "0")), tiny_checkpoint.tokenizer.convert_tokens_to_ids(IMAGE_START))
    assert len(row.images) == shared + own
    assert row.branches.count(0) > len(row.branches) // 3
    assert len(row.labels) == 5


def test_every_epoch_asks_every_set_in_another_order(tiny_checkpoint, make):
    start = tiny_checkpoint.tokenizer.convert_tokens_to_ids(IMAGE_START)
    rows = plan_question_rows(
        [T2I, I2T], make(), image_start_id=start, num_epochs=3, batch_size=2, max_steps=None, seed=0
    )
    assert len(rows) == 6
    assert len({tuple(rows[number].input_ids) + tuple(rows[number].images) for number in range(6)}) == 6


def test_a_set_whose_images_cannot_be_read_is_left_out(tiny_checkpoint, make):
    visuals = StoredFeatures({name: zeros(16, 32) for name in NAMES if name != "i9"})
    start = tiny_checkpoint.tokenizer.convert_tokens_to_ids(IMAGE_START)
    settings = {"image_start_id": start, "num_epochs": 1, "batch_size": 1, "max_steps": None, "seed": 0}
    rows = plan_question_rows([T2I, I2T], make(visuals=visuals), **settings)
    assert [row.images for row in rows] == [["i0"]]
    with pytest.raises(UserError, match="no image among the candidates can be read"):
        plan_question_rows([T2I], make(visuals=visuals), **settings)


def write(folder, *rows):
    (folder / "t2i.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_candidate_files_are_read(tmp_path):
    write(tmp_path, {"direction": "t2i", "query_id": "q", "query": "the query", "candidates": NAMES, "right": "i3"})
    (tmp_path / "i2t.jsonl").write_text(
        json.dumps({"direction": "i2t", "query_id": "i0", "query": "i0", "candidates": list(SENTENCES), "right": "s1"})
    )
    items = {"t2i": IMAGES, "i2t": SENTENCES}
    assert read_candidates(tmp_path, items) == [I2T, T2I]
    assert I2T.relevant("i0") == [0, 1]


def test_bad_candidate_files_are_named(tmp_path):
    items = {"t2i": IMAGES, "i2t": SENTENCES}
    with pytest.raises(UserError, match=r"no candidates in .*`python -m data_prep.candidates --run "):
        read_candidates(tmp_path, items)
    good = {"direction": "t2i", "query_id": "q", "query": "the query", "candidates": NAMES, "right": "i3"}
    for bad, what in (
        ({**good, "candidates": ["i1", "nobody"]}, "'nobody'"),
        ({**good, "right": "nobody"}, "'right'"),
        ({key: value for key, value in good.items() if key != "query"}, "'query'"),
    ):
        write(tmp_path, good, bad)
        with pytest.raises(UserError, match=f"t2i.jsonl, line 2: {what} is missing or unknown"):
            read_candidates(tmp_path, items)
    for few_or_many, count in ((["i3"], 1), ([*NAMES, "i0"], 11)):
        write(tmp_path, good, {**good, "candidates": few_or_many})
        with pytest.raises(UserError) as error:
            read_candidates(tmp_path, items)
        assert str(error.value) == (
            f"{tmp_path}/t2i.jsonl, line 2: a question needs 2 to 10 candidates, found {count}; "
            "mine them anew with another --num-candidates"
        )
