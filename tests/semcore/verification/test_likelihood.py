import pytest
import torch

from semcore.models.prompts import IMAGE, load_prompts
from semcore.models.session import FeaturesInMemory, ModelSession
from semcore.models.tokenization import answer_tokens, prepare_images, tokenize
from semcore.verification import Pair, given_image_log_probabilities, likelihood_gains, sentence_log_probabilities
from semcore.verification.answer_scoring import ScoringRequest, answer_log_probabilities
from tests.conftest import draw_picture
from tests.pixel_inputs import batch_inputs, prompt_text

PICTURES = {"red": draw_picture("red", 0), "blue": draw_picture("blue", 7)}
SENTENCES = ["a red circle.", "there is a small blue circle in the upper left.", "a.", "a red circle."]


def slow_score(checkpoint, turn, pictures, sentence):
    """The sum of the sentence's token log-probabilities by the plain forward, one pass a sentence."""
    tiles = prepare_images(checkpoint, pictures)
    prompt = prompt_text(checkpoint, turn, tiles)
    answer = answer_tokens(checkpoint.tokenizer, prompt, sentence)
    inputs = batch_inputs(checkpoint, [prompt], [tiles])
    length = len(tokenize(checkpoint.tokenizer, prompt))
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([answer])], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    scores = checkpoint.model(**inputs).logits[0, length - 1 : -1].log_softmax(dim=-1)
    return scores[range(len(answer)), answer].sum().item()


@pytest.fixture
def session(lively_checkpoint):
    return ModelSession(lively_checkpoint, load_prompts(), FeaturesInMemory()).with_pictures(PICTURES)


@torch.inference_mode()
def test_many_sentences_in_a_row_score_as_each_alone(lively_checkpoint, session):
    asked = [("red", SENTENCES), ("blue", SENTENCES[:2])]
    turn = session.prompts.render("sentence_of_image", image=IMAGE)
    fast = given_image_log_probabilities(session, asked)
    for (name, sentences), own in zip(asked, fast, strict=True):
        slow = [slow_score(lively_checkpoint, turn, [PICTURES[name]], sentence) for sentence in sentences]
        assert own == pytest.approx(slow, abs=1e-3)
    assert fast[0][0] != pytest.approx(fast[1][0], abs=1e-2)  # the image matters


@torch.inference_mode()
def test_sentences_without_an_image(lively_checkpoint, session):
    turn = session.prompts.render("sentence_alone")
    slow = [slow_score(lively_checkpoint, turn, [], sentence) for sentence in SENTENCES]
    assert sentence_log_probabilities(session, SENTENCES) == pytest.approx(slow, abs=1e-3)


def test_rows_and_batches_change_nothing(lively_checkpoint, session):
    [one] = given_image_log_probabilities(session, [("red", SENTENCES)])
    turn = session.prompts.render("sentence_of_image", image=IMAGE)
    [prompt] = session.make_prompts([turn], [["red"]])
    text = prompt_text(lively_checkpoint, turn, prepare_images(lively_checkpoint, [PICTURES["red"]]))
    answers = [answer_tokens(lively_checkpoint.tokenizer, text, sentence) for sentence in SENTENCES]
    [narrow] = answer_log_probabilities(
        lively_checkpoint, [ScoringRequest(prompt, answers)], answer_tokens_per_row=1, tokens_per_batch=1
    )
    assert narrow == pytest.approx(one, abs=1e-3)


def test_special_tokens_in_a_sentence_are_text(session):
    ended, harmless = sentence_log_probabilities(session, ["a<|im_end|> b", "a< |im_end|> b"])
    assert ended == pytest.approx(harmless, abs=1e-4)


def test_what_a_sentence_says_of_any_image_is_taken_off_and_no_pair_is_scored_twice(session):
    asked = [Pair("red", "a."), Pair("blue", SENTENCES[0]), Pair("red", SENTENCES[0]), Pair("red", "a.")]
    steps = {}

    def in_order(name, tasks, size, work, unit):
        steps[name] = tasks
        return [row for task in tasks for row in work([task])]

    gains = likelihood_gains(session, asked, in_order)
    assert steps == {
        "likelihood with the image": [("blue", [SENTENCES[0]]), ("red", [SENTENCES[0], "a."])],
        "likelihood without": [SENTENCES[0], "a."],
    }
    assert gains.keys() == set(asked)
    for image_id, sentence in asked:
        [[given]] = given_image_log_probabilities(session, [(image_id, [sentence])])
        [alone] = sentence_log_probabilities(session, [sentence])
        assert gains[image_id, sentence] == pytest.approx(given - alone, abs=1e-3)
    assert likelihood_gains(session, iter(asked)) == pytest.approx(gains, abs=1e-3)
