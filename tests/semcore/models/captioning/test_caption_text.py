"""Captions read from answers: without thoughts, refusals, or text around the caption."""

from __future__ import annotations

import pytest

from semcore.models.captioning.caption_text import read_caption


@pytest.mark.parametrize(
    "caption",
    [
        "A dog on grass.", "I can't believe it's a dog", 'a sign that says "Sorry, we are closed"',
        "Sorry, we're closed: a sign on a door", '"Stop" beside "Yield"', "unfortunately painted bench",
        "a red circle in the upper left, on a black background.", "Description of a cat: fluffy",
        "We can see a dog that can not see", "*sigh* a cat *sigh*", "a < b and c > d", "An AI robot",
    ],
)  # fmt: skip
def test_a_caption_is_left_as_it_is(caption: str) -> None:
    assert read_caption(caption) == ("ok", caption)


@pytest.mark.parametrize(
    "answer",
    [
        "<think>A cat?</think>A dog.", "A cat?\n</think>\n\nA dog.", "<thinking>\nno\n</thinking> A dog. <think>more",
        "<THINK>a</THINK>\nA dog.", "[THINK]x[/THINK]A dog.", "◁think▷x◁/think▷A dog.",
        "<think>a</think>b<think>c</think>A dog.", "<think></think>\n\nA dog.", "A dog.<|im_end|>",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>A dog.<|return|>",
        "<|begin_of_thought|>x<|end_of_thought|><|begin_of_solution|>A dog.<|end_of_solution|>",
        "<think>x</think><answer>A dog.</answer>", "Caption: A dog.", '**Caption:** "A dog."', "“A dog.”", "**A dog.**",
        "Here is a caption for the image:\n\nA dog.", "Sure! Here's a short description: A dog.", "```\nA dog.\n```",
        "# A dog.", " A \u200bdog. ",
    ],
)  # fmt: skip
def test_what_is_not_the_caption_is_left_out(answer: str) -> None:
    assert read_caption(answer) == ("ok", "A dog.")


@pytest.mark.parametrize(
    "answer", ["<think>a dog", "<think>a</think>", "<|channel|>analysis<|message|>a dog", "[THINK]x"]
)
def test_thoughts_alone_are_no_caption(answer: str) -> None:
    assert read_caption(answer) == ("thoughts", "")


@pytest.mark.parametrize("answer", ["", " \n", "\u200b", "<|im_end|>"])
def test_nothing_is_empty(answer: str) -> None:
    assert read_caption(answer) == ("empty", "")


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.", "I’m sorry, I cannot describe this image.", "Sorry, I can't assist.",
        "I cannot identify people in images.", "As an AI language model, I do not see.", "I'm sorry. I can't help.",
        "Unfortunately, I am unable to view images.", "I apologize, but I cannot fulfill this request.",
        "I'm not able to provide a caption.", "<think>unsafe</think>I won't describe this.", '"I\'m sorry, I can\'t."',
        "很抱歉，我无法描述这张图片。", "申し訳ありませんが、お手伝いできません。", "Lo siento, pero no puedo.",
        "Je suis désolé, mais je ne peux pas.", "Es tut mir leid, aber ich kann das nicht.",
    ],
)  # fmt: skip
def test_a_refusal_is_no_caption(answer: str) -> None:
    assert read_caption(answer)[0] == "refused"
