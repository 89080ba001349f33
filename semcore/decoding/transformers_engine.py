"""Beam search by Hugging Face `generate`: slower, kept for comparison and as the reference in tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from semcore.decoding.beam_search import SearchResult
from semcore.decoding.index import IdentifierIndex

BEAM_SETTINGS = {"length_penalty": 0.0, "early_stopping": "never"}
"""Sums of log-probabilities, and no stop while an unfinished path can still win; unused with a single beam."""

UNREACHABLE = -1e8
"""`generate` gives beams without continuation sums near -1e9; no sum of log-probabilities comes near this."""


@torch.inference_mode()
def generate_with_transformers(
    model: Any, inputs: Mapping[str, Any], index: IdentifierIndex, num_beams: int = 20
) -> SearchResult:
    """Search with `generate(num_beams=..., prefix_allowed_tokens_fn=...)`.

    Args:
        model: a decoder-only Hugging Face model.
        inputs: the left-padded keyword arguments of `model(**inputs)`, for Q queries.
        index: the identifiers; each must end with a token that occurs nowhere else, as an end token does.
        num_beams: width of the beam, and the maximum number of sequences per query.

    Raises:
        UserError: an end token also occurs inside an identifier, where `generate` would stop.
    """
    ends = index.end_tokens()
    # Without input_ids, `generate` passes only the new tokens to the callback, and returns only these.
    prompt_length = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
    output = model.generate(
        **inputs,
        max_new_tokens=index.max_length,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        do_sample=False,
        repetition_penalty=1.0,
        **(BEAM_SETTINGS if num_beams > 1 else {}),
        prefix_allowed_tokens_fn=prefix_callback(index, prompt_length, ends),
        eos_token_id=ends,
        pad_token_id=ends[0],
        return_dict_in_generate=True,
        output_scores=num_beams > 1,
        output_logits=num_beams == 1,
    )
    scores = output.sequences_scores if num_beams > 1 else _greedy_scores(output, ends)
    scores = scores.view(-1, num_beams).float().cpu()
    answers = output.sequences[:, prompt_length:].view(*scores.shape, -1).tolist()
    return _reachable(answers, scores, index, set(ends))


def prefix_callback(
    index: IdentifierIndex, prompt_length: int, ends: list[int]
) -> Callable[[int, torch.Tensor], list[int]]:
    """Return the `prefix_allowed_tokens_fn` of an index: token ids of a prefix (tokens,) -> allowed token ids.

    `generate` also calls it for beams that have ended or have no continuation and accepts no empty list; for these the
    function returns `ends`.
    """

    def allowed(query: int, tokens: torch.Tensor) -> list[int]:
        return index.allowed_tokens(tokens[prompt_length:].tolist()) or ends

    return allowed


def _greedy_scores(output: Any, ends: list[int]) -> torch.Tensor:
    """Sum the log-probabilities up to the end token; with one beam `generate` keeps no sums (Q,)."""
    logits = torch.stack(output.logits, dim=1).float()
    tokens = output.sequences[:, -logits.shape[1] :]
    log_probs = logits.log_softmax(dim=-1).gather(2, tokens[..., None])[..., 0]
    is_end = torch.isin(tokens, torch.tensor(ends, device=tokens.device)).long()
    ended_before = is_end.cumsum(dim=1) > is_end
    return log_probs.masked_fill(ended_before, 0.0).sum(dim=1)


def _reachable(
    answers: list[list[list[int]]], scores: torch.Tensor, index: IdentifierIndex, ends: set[int]
) -> SearchResult:
    """Cut each answer after its end token and drop the beams without continuation, which `generate` ranks last."""
    counts = (scores > UNREACHABLE).sum(dim=1).tolist()
    sequences = [
        [_until_end(answer, ends) for answer in beams[:count]] for beams, count in zip(answers, counts, strict=True)
    ]
    leaves = [[index.leaf(sequence) for sequence in own] for own in sequences]
    return SearchResult(sequences, leaves, scores.masked_fill(scores <= UNREACHABLE, -torch.inf))


def _until_end(answer: list[int], ends: set[int]) -> tuple[int, ...]:
    end = next(place for place, token in enumerate(answer) if token in ends)
    return tuple(answer[: end + 1])
