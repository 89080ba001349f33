import torch

from semcore.models.batching import batches_by_length, last_hidden, make_prompts, model_inputs
from semcore.models.prompts import IMAGE, load_prompts
from semcore.models.tokenization import prepare_images, tokenize
from semcore.models.visual_features import encode_pictures
from tests.conftest import draw_picture
from tests.pixel_inputs import batch_inputs, prompt_text

PICTURES = [draw_picture("red", 1), draw_picture("blue", 5)]


def test_features_in_place_of_image_tokens_are_exact(lively_checkpoint):
    """Prompts of unlike length, with none, one and two images, against the plain forward with pixels."""
    turn = load_prompts().render("caption", image=IMAGE)
    turns = ["no image here", turn, f"{IMAGE} and {IMAGE}, which one?"]
    own = [[], PICTURES[:1], PICTURES]
    tiles = [prepare_images(lively_checkpoint, pictures) for pictures in own]
    texts = [prompt_text(lively_checkpoint, *each) for each in zip(turns, tiles, strict=True)]
    prompts = make_prompts(lively_checkpoint, turns, [encode_pictures(lively_checkpoint, each) for each in own])
    assert [prompt.tokens for prompt in prompts] == [tokenize(lively_checkpoint.tokenizer, text) for text in texts]
    with torch.inference_mode():
        fast = last_hidden(lively_checkpoint.model, **model_inputs(lively_checkpoint, prompts))[:, -1]
        for row, text, images in zip(fast, texts, tiles, strict=True):
            inputs = batch_inputs(lively_checkpoint, [text], [images])
            slow = lively_checkpoint.model.model(**inputs).last_hidden_state[0, -1]
            torch.testing.assert_close(row, slow, rtol=1e-4, atol=1e-4)


def test_text_alone_stays_text(lively_checkpoint):
    inputs = model_inputs(lively_checkpoint, make_prompts(lively_checkpoint, ["a dog", "a dog in a park"]))
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1]
    assert inputs["attention_mask"][0, 0] == 0


def test_batches_hold_what_fits_and_everything_once():
    lengths = [3, 9, 1, 4, 100, 2]
    batches = list(batches_by_length("abcdef", lengths, tokens_per_batch=10))
    assert sorted(place for places, _ in batches for place in places) == list(range(6))
    assert batches[0] == ([4], ["e"])  # longer than allowed: alone
    assert all(len(places) * max(lengths[p] for p in places) <= 10 for places, _ in batches[1:])
    assert all(entries == ["abcdef"[place] for place in places] for places, entries in batches)
