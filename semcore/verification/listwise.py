"""Verification by choice: all candidates in one prompt, the answer a letter (paper, section 3.3).

The letters' log-probabilities are read at one position of one forward pass, so that every question
gets exactly one full ranking with scores, and no text has to be parsed.

Shapes: B questions, L tokens of the longest, H the text model's hidden size, K choices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from semcore.checkpoint import Checkpoint
from semcore.embedding import Prompt, batches_by_length, last_hidden, make_prompts, model_inputs
from semcore.errors import UserError
from semcore.inputs import chat_prompt, tokenize
from semcore.prompting import IMAGE, Prompts

LETTERS = "ABCDEFGHIJ"
TOKENS_A_BATCH = 16_384


class Choice(NamedTuple):
    """A candidate as the prompt shows it: an image (t2i) or a sentence (i2t), with its keywords."""

    item_id: str
    keywords: str
    sentence: str = ""


class Question(NamedTuple):
    """A query and its candidates; the query is a sentence (t2i) or an image's id (i2t)."""

    query: str
    choices: tuple[Choice, ...]


def question_turn(prompts: Prompts, direction: str, question: Question) -> str:
    """Return the user's turn that asks a question, its choices labelled A, B, C, ... as they stand.

    Raises:
        UserError: more choices than letters.
    """
    if len(question.choices) > len(LETTERS):
        raise UserError(f"a question has at most {len(LETTERS)} candidates, found {len(question.choices)}")
    candidates: list[dict[str, Any]] = [
        {"label": letter, "keywords": choice.keywords, "image": IMAGE, "sentence": choice.sentence}
        for letter, choice in zip(LETTERS, question.choices, strict=False)
    ]
    if direction == "t2i":
        return prompts.render("verify_t2i", candidates=candidates, query=question.query)
    return prompts.render("verify_i2t", candidates=candidates, image=IMAGE)


def option_tokens(tokenizer: Any, turn: str = "?") -> list[int]:
    """Return the token of each letter, as it is read right after a prompt.

    Args:
        tokenizer: the checkpoint's.
        turn: any user's turn; what stands right before the answer is the chat template's.

    Raises:
        UserError: a letter is not one token of its own there.
    """
    prompt = chat_prompt(tokenizer, turn)
    before = tokenize(tokenizer, prompt)
    tokens = []
    for letter in LETTERS:
        whole = tokenize(tokenizer, prompt + letter)
        if whole[: len(before)] != before or len(whole) != len(before) + 1:
            raise UserError(
                f"the option {letter} is not a single token in this checkpoint's vocabulary, so verification cannot "
                "read it; use --verifier likelihood"
            )
        tokens.append(whole[-1])
    if len(set(tokens)) != len(LETTERS):
        raise UserError("two options are the same token in this checkpoint's vocabulary; use --verifier likelihood")
    return tokens


def choose(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: str,
    questions: Sequence[Question],
    features: Mapping[str, torch.Tensor],
    *,
    num_shifts: int = 1,
    tokens_a_batch: int = TOKENS_A_BATCH,
) -> list[list[float]]:
    """Return the log-probability of each choice of each question, in the order of its choices.

    Args:
        checkpoint: the verifier.
        prompts: hold "verify_t2i" and "verify_i2t".
        direction: "t2i" (choices are images) or "i2t" (choices are sentences).
        questions: at most ten choices each.
        features: the visual features of every image that occurs, by its id.
        num_shifts: how many cyclic shifts of the choices to average over, against a liking for early
            or late letters; 1 asks once, in the given order.
        tokens_a_batch: bounds the memory of a forward pass.
    """
    options = option_tokens(checkpoint.tokenizer)
    asked: list[tuple[int, int]] = [
        (number, offset)
        for number, question in enumerate(questions)
        for offset in _offsets(len(question.choices), num_shifts)
    ]
    shifted = [
        Question(questions[number].query, _rotate(questions[number].choices, offset)) for number, offset in asked
    ]
    rows = make_prompts(
        checkpoint,
        [question_turn(prompts, direction, question) for question in shifted],
        [_images(direction, question, features) for question in shifted],
    )
    answers = _read_options(checkpoint, rows, options, tokens_a_batch)
    sums = [torch.zeros(len(question.choices)) for question in questions]
    for (number, offset), logits in zip(asked, answers, strict=True):
        count = len(sums[number])
        sums[number] += logits[:count].log_softmax(dim=0).roll(offset)
    return [total.div(num_shifts).log_softmax(dim=0).tolist() for total in sums]


@torch.inference_mode()
def _read_options(
    checkpoint: Checkpoint, rows: Sequence[Prompt], options: Sequence[int], tokens_a_batch: int
) -> list[torch.Tensor]:
    """Return the options' logits after each prompt, float32 on the CPU, each (letters,)."""
    head = checkpoint.model.get_output_embeddings()
    weight = head.weight[list(options)].float()
    bias = 0 if head.bias is None else head.bias[list(options)].float()
    logits: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    for places, batch in batches_by_length(rows, [len(row.tokens) for row in rows], tokens_a_batch):
        inputs = model_inputs(checkpoint, batch)
        states = last_hidden(checkpoint.model, **inputs)[:, -1].float()
        for place, row in zip(places, (states @ weight.T + bias).cpu(), strict=True):
            logits[place] = row
    return logits


def _images(direction: str, question: Question, features: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    if direction == "t2i":
        return [features[choice.item_id] for choice in question.choices]
    return [features[question.query]]


def _offsets(num_choices: int, num_shifts: int) -> list[int]:
    """Return where each shift begins, spread evenly; 0 comes first."""
    return [shift * num_choices // num_shifts for shift in range(num_shifts)]


def _rotate(choices: tuple[Choice, ...], offset: int) -> tuple[Choice, ...]:
    return choices[offset:] + choices[:offset]
