"""Special tokens found by their role: the end of an answer, and padding."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jinja2

QUESTION, ANSWER = "a question", "the-answer-stands-here"


def closing_token_id(tokenizer: Any) -> int:
    """Return the token that ends an answer: the one that closes the assistant's turn in the chat template.

    A base model's tokenizer may name another end token than the one with which its chat template closes turns, and a
    model generates what it was trained on. Where the template closes a turn with no single token, it is the
    tokenizer's end token.

    Raises:
        ValueError: there is neither.
    """
    return _closing_token_id(tokenizer, str(tokenizer.chat_template), tokenizer.eos_token_id, len(tokenizer))


def filler_token_id(tokenizer: Any) -> int:
    """Return the padding token; any token will do, as the attention mask and the labels exclude it."""
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else closing_token_id(tokenizer)


@lru_cache(maxsize=16)  # called for every answer; it depends on nothing but the key
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
    """Return the text that the chat template adds after an answer, without leading white space."""
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except (jinja2.TemplateError, ValueError, TypeError, KeyError):  # a template that takes no answers
        return ""
    return text.rpartition(ANSWER)[2].lstrip() if ANSWER in text else ""
