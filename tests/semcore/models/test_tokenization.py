from itertools import pairwise

import pytest
import torch
from PIL import Image

from semcore.models.cluster_tokens import add_cluster_tokens
from semcore.models.prompts import IMAGE, load_prompts
from semcore.models.tokenization import (
    answer_tokens,
    expand_images,
    flat_answer_tokens,
    left_padded,
    prepare_images,
    tokenize,
)
from tests.pixel_inputs import batch_inputs, prompt_text


def test_left_padding():
    inputs = left_padded([[5, 6, 7], [8]], pad_token_id=0)
    assert inputs["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]


def test_images_expand_in_order():
    assert expand_images("a <image> b <image>", [1, 2]) == (
        "a <img><IMG_CONTEXT></img> b <img><IMG_CONTEXT><IMG_CONTEXT></img>"
    )
    with pytest.raises(ValueError, match="1 image placeholders for 0 images"):
        expand_images("a <image>", [])


def test_an_answer_is_tokenized_in_its_place(tiny_checkpoint):
    add_cluster_tokens(tiny_checkpoint, 2, [[], []])
    prompt = prompt_text(tiny_checkpoint, "Sentence: a red star")
    answer = answer_tokens(tiny_checkpoint.tokenizer, prompt, "<|cluster_1|>red star")
    whole = tokenize(tiny_checkpoint.tokenizer, prompt + "<|cluster_1|>red star<|im_end|>")
    assert whole[-len(answer) :] == answer
    assert tiny_checkpoint.tokenizer.decode(answer) == "<|cluster_1|>red star<|im_end|>"


def test_padding_and_neighbours_do_not_change_the_logits(tiny_checkpoint):
    prompts = load_prompts()
    picture = prepare_images(tiny_checkpoint, [Image.new("RGB", (90, 40), "red")])
    texts = [
        prompt_text(tiny_checkpoint, prompts.render("identify_i2t", image=IMAGE), picture),
        prompt_text(tiny_checkpoint, prompts.render("identify_t2i", query="a star")),
    ]
    images = [picture, []]
    with torch.no_grad():
        together = tiny_checkpoint.model(**batch_inputs(tiny_checkpoint, texts, images)).logits[:, -1]
        for row, (text, own) in enumerate(zip(texts, images, strict=True)):
            alone = tiny_checkpoint.model(**batch_inputs(tiny_checkpoint, [text], [own])).logits[0, -1]
            torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)


def test_many_answers_are_tokenized_as_each_alone(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("semcore.models.tokenization._ANSWERS_AT_ONCE", 3)
    add_cluster_tokens(tiny_checkpoint, 2, [[], []])
    tokenizer = tiny_checkpoint.tokenizer
    answers = [f"<|cluster_{n % 2}|>red star {word}" for n, word in enumerate(["", "犬", "blue  dog", "É", "x" * 9])]
    for prompt in (prompt_text(tiny_checkpoint, "Sentence: a red star"), "no special token "):
        tokens, ends = flat_answer_tokens(tokenizer, prompt, iter(answers))
        found = [tokens[start:end].tolist() for start, end in pairwise(ends.tolist())]
        assert found == [answer_tokens(tokenizer, prompt, answer) for answer in answers]
    with pytest.raises(ValueError, match="'star' melts into the last token of the prompt 'a red'"):
        flat_answer_tokens(tokenizer, "a red", ["dog", "star"])
