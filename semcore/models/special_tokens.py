"""The tokens that a tokenizer needs no name for: what ends an answer, and what fills rows up."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jinja2

QUESTION, ANSWER = "a question", "the-answer-stands-here"


def closing_token_id(tokenizer: Any) -> int:
    """Return the token that ends an answer: the one that closes the assistant's turn in the chat template.

    A base model's tokenizer may name another end token than the one that its chat template closes turns with, and a
    model waits for what it was taught to write. Where the template closes a turn with no single token, it is the
    tokenizer's end token.

    Raises:
        ValueError: there is neither.
    """
    return _closing_token_id(tokenizer, str(tokenizer.chat_template), tokenizer.eos_token_id, len(tokenizer))


def filler_token_id(tokenizer: Any) -> int:
    """Return the token that fills rows up: whatever it is, a mask hides it from the model and labels from the loss."""
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else closing_token_id(tokenizer)


@lru_cache(maxsize=16)  # asked for with every answer; all that it depends on is in the key
def _closing_token_id(tokenizer: Any, template: str, eos_token_id: int | None, size: int) -> int:
    after = _after_the_answer(tokenizer)
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    special = {**tokenizer.get_added_vocab(), **dict(named)}
    if marks := [token for token in special if token and after.startswith(token)]:
        return int(special[max(marks, key=len)])
    words = tokenizer(after.rstrip(), add_special_tokens=False)["input_ids"]
    if len(words) == 1:
        return int(words[0])
    if eos_token_id is None:
        raise ValueError(f"after an answer stands {after[:20]!r}, and there is no end token")
    return eos_token_id


def _after_the_answer(tokenizer: Any) -> str:
    """Return what the chat template writes behind an answer, without the white space before it."""
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except (jinja2.TemplateError, ValueError, TypeError, KeyError):  # a template that takes no answers
        return ""
    return text.rpartition(ANSWER)[2].lstrip() if ANSWER in text else ""
