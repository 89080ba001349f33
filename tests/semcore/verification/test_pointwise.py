import pytest
import torch

from semcore.data.directions import Direction
from semcore.models.prompts import IMAGE, load_prompts
from semcore.models.session import FeaturesInMemory, ModelSession
from semcore.models.tokenization import prepare_images, tokenize
from semcore.verification import Choice, Question, match_log_odds
from tests.conftest import draw_picture
from tests.pixel_inputs import batch_inputs, prompt_text

PICTURES = {name: draw_picture(name, place) for place, name in enumerate(("red", "blue", "green"))}
QUESTIONS = {
    "t2i": [
        Question("a blue circle in the upper left", tuple(Choice(name, f"{name} circle") for name in PICTURES)),
        Question("red", (Choice("green", ""),)),
    ],
    "i2t": [
        Question("blue", tuple(Choice(name, "circle", f"there is a {name} circle") for name in PICTURES)),
        Question("red", (Choice("one", "words", "one"), Choice("other", "", "another sentence"))),
    ],
}


@pytest.fixture
def session(lively_checkpoint):
    return ModelSession(lively_checkpoint, load_prompts(), FeaturesInMemory()).with_pictures(PICTURES)


def slow_log_odds(checkpoint, direction, query, choice):
    """One candidate by the plain forward with pixels, over the whole vocabulary."""
    shown = {"image": IMAGE, "keywords": choice.keywords, "sentence": choice.sentence}
    turn = load_prompts().render(
        f"verify_pointwise_{direction}", candidate=shown, query=query, image=IMAGE, match="A", mismatch="B"
    )
    tiles = prepare_images(checkpoint, [PICTURES[choice.item_id if direction == "t2i" else query]])
    text = prompt_text(checkpoint, turn, tiles)
    match, mismatch = (tokenize(checkpoint.tokenizer, text + letter)[-1] for letter in "AB")
    log_probabilities = checkpoint.model(**batch_inputs(checkpoint, [text], [tiles])).logits[0, -1].log_softmax(dim=0)
    return (log_probabilities[match] - log_probabilities[mismatch]).item()


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("tokens_per_batch", [1, 100_000])
@torch.inference_mode()
def test_every_candidate_scores_as_a_prompt_of_its_own(lively_checkpoint, session, direction, tokens_per_batch):
    questions = QUESTIONS[direction]
    fast = match_log_odds(session, direction, questions, tokens_per_batch=tokens_per_batch)
    for question, own in zip(questions, fast, strict=True):
        slow = [slow_log_odds(lively_checkpoint, direction, question.query, choice) for choice in question.choices]
        assert own == pytest.approx(slow, abs=1e-4)
    assert max(fast[0]) - min(fast[0]) > 1e-2  # what is shown matters


def test_the_other_candidates_do_not_matter(session):
    [question, _] = QUESTIONS["i2t"]
    reversed_question = Question(question.query, question.choices[::-1])
    alone = [Question(question.query, (choice,)) for choice in question.choices]
    one, other, *rest = match_log_odds(session, Direction.I2T, [question, reversed_question, *alone])
    assert one == pytest.approx(other[::-1], abs=1e-4)
    assert one == pytest.approx([score for [score] in rest], abs=1e-4)


def test_nothing_asked_is_nothing_answered(session):
    assert match_log_odds(session, Direction.T2I, [Question("a", ())]) == [[]]
