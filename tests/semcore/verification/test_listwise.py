import copy
from dataclasses import replace
from hashlib import sha256

import pytest
import torch

from semcore.data.directions import Direction
from semcore.models.prompts import load_prompts
from semcore.models.session import FeaturesInMemory
from semcore.models.tokenization import prepare_images
from semcore.runtime.errors import UserError
from semcore.verification import LETTERS, Choice, Question, VerifierSession, choose, option_tokens, question_turn
from tests.conftest import draw_picture
from tests.pixel_inputs import batch_inputs, prompt_text

PICTURES = {name: draw_picture(name, place) for place, name in enumerate(("red", "blue", "green", "purple"))}
IMAGES = tuple(Choice(name, f"{name} circle") for name in PICTURES)
SENTENCES = tuple(Choice(f"s{n}", "circle", f"a {name} circle") for n, name in enumerate(PICTURES))
QUESTIONS = {
    "t2i": [Question("a blue circle", IMAGES), Question("red", IMAGES[1:3])],
    "i2t": [Question("blue", SENTENCES), Question("red", SENTENCES[:3])],
}


@pytest.fixture
def session(lively_checkpoint):
    return VerifierSession(lively_checkpoint, load_prompts(), FeaturesInMemory()).with_pictures(PICTURES)


def slow_scores(checkpoint, direction, question):
    """One question by the plain forward with pixels, over the whole vocabulary."""
    images = [choice.item_id for choice in question.choices] if direction == "t2i" else [question.query]
    tiles = prepare_images(checkpoint, [PICTURES[name] for name in images])
    text = prompt_text(checkpoint, question_turn(load_prompts(), direction, question), tiles)
    logits = checkpoint.model(**batch_inputs(checkpoint, [text], [tiles])).logits[0, -1]
    return logits[option_tokens(checkpoint.tokenizer)[: len(question.choices)]].log_softmax(dim=0).tolist()


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("tokens_per_batch", [1, 100_000])
@torch.inference_mode()
def test_every_choice_gets_the_log_probability_of_its_letter(lively_checkpoint, session, direction, tokens_per_batch):
    questions = QUESTIONS[direction]
    scores = choose(session, direction, questions, tokens_per_batch=tokens_per_batch)
    for question, own in zip(questions, scores, strict=True):
        assert own == pytest.approx(slow_scores(lively_checkpoint, direction, question), abs=1e-4)
        assert sum(map(torch.tensor(own).exp().tolist().__getitem__, range(len(own)))) == pytest.approx(1, abs=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(("num_shifts", "irrelevant"), [(4, True), (10, True), (1, False), (2, False)])
def test_all_shifts_make_the_given_order_irrelevant(session, num_shifts, irrelevant):
    """Reordering the choices, turned or shuffled, reorders the scores; with fewer shifts it does not."""
    orders = [(0, 1, 2, 3), (1, 2, 3, 0), (2, 0, 3, 1)]
    questions = [Question("a blue circle", tuple(IMAGES[place] for place in order)) for order in orders]
    given, *others = choose(session, Direction.T2I, questions, num_shifts=num_shifts)
    for order, scores in zip(orders[1:], others, strict=True):
        assert (scores == pytest.approx([given[place] for place in order], abs=1e-4)) is irrelevant


def test_the_letters_are_single_tokens_in_their_place(lively_checkpoint):
    tokenizer = lively_checkpoint.tokenizer
    assert tokenizer.convert_ids_to_tokens(option_tokens(tokenizer)) == list(LETTERS)


def test_a_letter_of_several_tokens_is_refused(lively_checkpoint):
    with pytest.raises(UserError, match="the option 10 is not a single token .* use --verifier likelihood"):
        option_tokens(lively_checkpoint.tokenizer, letters=["A", "10"])


def test_the_letters_are_resolved_behind_the_prompt_that_is_asked(lively_checkpoint, session):
    """Where a chat template puts nothing between, a letter may melt into the last word of one prompt only."""
    tokenizer = copy.deepcopy(lively_checkpoint.tokenizer)
    tokenizer.chat_template = "{{ messages[0]['content'].rstrip('.') }}"
    tokenizer.add_tokens(["keywordsA"])
    assert option_tokens(tokenizer, "A:\n") == option_tokens(lively_checkpoint.tokenizer)
    melting = replace(session, checkpoint=replace(lively_checkpoint, tokenizer=tokenizer))
    with pytest.raises(UserError, match="the option A is not a single token"):
        choose(melting, Direction.I2T, QUESTIONS["i2t"])


@torch.inference_mode()
@pytest.mark.parametrize("num_shifts", [2, 3, 4, 10])
def test_shifts_are_the_mean_of_single_questions(lively_checkpoint, session, num_shifts):
    """Against the plain forward of every rotation; a question of three has three rotations at most."""
    questions = QUESTIONS["i2t"]
    fast = choose(session, Direction.I2T, questions, num_shifts=num_shifts)
    for question, own in zip(questions, fast, strict=True):
        count = len(question.choices)
        total = torch.zeros(count)
        starts = sorted({shift * count // min(num_shifts, count) for shift in range(min(num_shifts, count))})
        circle = list(range(count))
        if num_shifts >= count:
            circle.sort(key=lambda place: sha256(question.choices[place].item_id.encode()).hexdigest())
        for start in starts:
            places = circle[start:] + circle[:start]
            asked = Question(question.query, tuple(question.choices[place] for place in places))
            for place, score in zip(places, slow_scores(lively_checkpoint, Direction.I2T, asked), strict=True):
                total[place] += score / len(starts)
        assert own == pytest.approx(total.log_softmax(dim=0).tolist(), abs=1e-4)


@pytest.mark.parametrize("count", [0, 1, 11])
def test_too_few_and_too_many_choices_are_refused(count):
    with pytest.raises(UserError) as error:
        question_turn(load_prompts(), Direction.T2I, Question("a", IMAGES[:1] * count))
    assert str(error.value) == (
        f"a question needs 2 to 10 candidates, one a letter from A to J, found {count}; "
        "choose another --num-candidates, or use --verifier likelihood"
    )
