import json

import pytest
import torch

from semcore.models.captioning.local import Caption, caption_images, caption_stats, captions_of_features, write_captions
from semcore.models.inference import load_for_inference
from semcore.models.prompts import IMAGE, load_prompts
from semcore.models.tokenization import prepare_images
from semcore.models.visual_features import FeatureStore
from tests.conftest import draw_picture
from tests.pixel_inputs import batch_inputs, prompt_text
from tests.run_fixtures import save

PICTURES = [draw_picture(colour, 3 * place) for place, colour in enumerate(("red", "blue", "green"))]


@torch.inference_mode()
def slow_caption(checkpoint, picture, max_new_tokens):
    """Greedy decoding by hand: the whole prompt is read again for every token."""
    tiles = prepare_images(checkpoint, [picture])
    inputs = batch_inputs(
        checkpoint, [prompt_text(checkpoint, load_prompts().render("caption", image=IMAGE), tiles)], [tiles]
    )
    answer = []
    while len(answer) < max_new_tokens and checkpoint.end_token_id not in answer:
        answer.append(checkpoint.model(**inputs).logits[0, -1].argmax().item())
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[answer[-1]]])], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    ended = answer[-1] == checkpoint.end_token_id
    return " ".join(checkpoint.tokenizer.decode(answer, skip_special_tokens=True).split()), ended


def captions_of(checkpoint, files, max_new_tokens):
    features = FeatureStore(checkpoint, files)
    features.add(files)
    return caption_images(checkpoint, load_prompts(), list(files), features, max_new_tokens=max_new_tokens)


def test_a_batch_writes_what_each_image_gets_alone(lively_checkpoint):
    fast = write_captions(lively_checkpoint, load_prompts(), PICTURES, max_new_tokens=6)
    assert fast == [slow_caption(lively_checkpoint, picture, 6) for picture in PICTURES]
    assert len({text for text, _ in fast}) > 1  # they do depend on the image


def test_images_of_unlike_length_are_written_about_as_alone(lively_checkpoint):
    """Prompts with fewer visual tokens are padded; no checkpoint here has such images."""
    features = [torch.randn(length, 32, generator=torch.Generator().manual_seed(length)) for length in (4, 23, 9)]
    fast = captions_of_features(lively_checkpoint, load_prompts(), features, max_new_tokens=6)
    alone = [captions_of_features(lively_checkpoint, load_prompts(), [own], max_new_tokens=6)[0] for own in features]
    assert fast == alone


def test_what_a_checkpoint_wants_by_itself_does_not_count(lively_checkpoint, tmp_path):
    before = write_captions(lively_checkpoint, load_prompts(), PICTURES, max_new_tokens=6)
    save(lively_checkpoint, tmp_path)
    wishes = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 3.0, "no_repeat_ngram_size": 1}
    (tmp_path / "generation_config.json").write_text(json.dumps(wishes))
    loaded = load_for_inference(tmp_path, dtype="float32", device="cpu")
    assert write_captions(loaded, load_prompts(), PICTURES, max_new_tokens=6) == before


@pytest.mark.parametrize(
    ("answer", "outcome", "text"),
    [
        ("a dog<|im_end|><|endoftext|>", "ok", "a dog"),
        ("a dog in a", "truncated", "a dog in a"),
        (" <|im_end|>", "empty", ""),
        ("<img>\n<|im_end|>", "empty", ""),
    ],
)
def test_outcomes(lively_checkpoint, tmp_path, monkeypatch, answer, outcome, text):
    tokens = lively_checkpoint.tokenizer(answer, add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(type(lively_checkpoint.model), "generate", lambda self, **_: torch.tensor([tokens]))
    PICTURES[0].save(tmp_path / "a.png")
    captions = captions_of(lively_checkpoint, {"a": tmp_path / "a.png"}, 9)
    assert captions == [Caption("a", outcome, text)]


def test_unreadable_images_stay_in_their_place(lively_checkpoint, tmp_path):
    files = {name: tmp_path / f"{name}.png" for name in "abc"}
    PICTURES[0].save(files["a"])
    files["b"].write_bytes(b"")
    captions = captions_of(lively_checkpoint, files, 3)
    assert [caption.image_id for caption in captions] == list("abc")
    assert captions[1] == Caption("b", "unreadable", "", "the file is empty")
    assert captions[2] == Caption("c", "unreadable", "", "there is no such file")


def test_stats_count_and_list():
    captions = [
        Caption("a", "ok", "x"), Caption("b", "unreadable", "", "why"), Caption("c", "truncated", "x"),
        Caption("d", "failed", "", "status 500"), Caption("e", "refused", "", "I cannot"), Caption("f", "thoughts"),
    ]  # fmt: skip
    assert caption_stats(captions) == {
        "ok": 1, "unreadable": 1, "empty": 0, "truncated": 1, "failed": 1, "num_images": 6,
        "refused": 1, "thoughts": 1, "filtered": 0, "filtered_images": [],
        "refused_images": [{"image_id": "e", "reason": "I cannot"}],
        "thoughts_images": [{"image_id": "f", "reason": ""}],
        "unreadable_images": [{"image_id": "b", "reason": "why"}], "empty_images": [], "truncated_images": ["c"],
        "failed_images": [{"image_id": "d", "reason": "status 500"}],
    }  # fmt: skip
