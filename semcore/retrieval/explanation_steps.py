"""Steps of an explanation: an identifier's tokens with their cost, and the word that each belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from semcore.decoding.path_steps import Branch, PathStep


def step_rows(
    tokenizer: Any, identifier: str, steps: Sequence[PathStep], log_priors: Sequence[float] | None
) -> list[dict[str, Any]]:
    """Return the steps as `semcore.retrieval.explanation` says.

    Args:
        tokenizer: the checkpoint's.
        identifier: the text that the tokens are of.
        steps: one a token, the end token last.
        log_priors: of each prefix; None where none is taken off.
    """
    tokens = [step.taken.token for step in steps]
    parts = token_parts(tokenizer, identifier, tokens)
    sums = accumulate(step.taken.log_probability for step in steps)
    return [
        {
            "depth": depth,
            "token": text_of(tokenizer, step.taken.token),
            "part": part,
            "keyword": keyword,
            "log_probability": step.taken.log_probability,
            "sum": total,
            "log_prior": None if log_priors is None else log_priors[depth - 1],
            "num_branches": 1 + len(step.others),
            "best_other": _other(tokenizer, step.others),
        }
        for depth, (step, (part, keyword), total) in enumerate(zip(steps, parts, sums, strict=True), start=1)
    ]


def token_parts(tokenizer: Any, identifier: str, tokens: Sequence[int]) -> list[tuple[str, str | None]]:
    """Return for each token of an identifier its part ("cluster", "keyword", "end") and the keyword it belongs to.

    Args:
        tokenizer: the checkpoint's.
        identifier: the text.
        tokens: its tokens and the end token.
    """
    cluster = identifier[: identifier.find("|>") + 2] if identifier.startswith("<|cluster_") else ""
    spans = _word_spans(identifier, len(cluster))
    parts: list[tuple[str, str | None]] = []
    written = ""
    for place, _ in enumerate(tokens[:-1]):
        until = tokenizer.decode(tokens[: place + 1], clean_up_tokenization_spaces=False)
        start = len(written) + len(until[len(written) :]) - len(until[len(written) :].lstrip())
        written = until
        if start < len(cluster):
            parts.append(("cluster", None))
        else:
            parts.append(("keyword", next((word for end, word in spans if start < end), None)))
    return [*parts, ("end", None)]


def text_of(tokenizer: Any, token: int) -> str:
    """Return a token as text."""
    return tokenizer.decode([token], clean_up_tokenization_spaces=False)


def _word_spans(identifier: str, start: int) -> list[tuple[int, str]]:
    """Return where each word, or token of a code, behind the cluster ends, and the word."""
    spans = []
    for word in identifier[start:].replace("|><|", "|> <|").split():
        start = identifier.index(word, start) + len(word)
        spans.append((start, word))
    return spans


def _other(tokenizer: Any, others: Sequence[Branch]) -> dict[str, Any] | None:
    if not others:
        return None
    return {"token": text_of(tokenizer, others[0].token), "log_probability": others[0].log_probability}
