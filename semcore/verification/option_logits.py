"""Option letters as answers: their tokens, and their logits at the last position of a prompt.

Shapes: B prompts, L tokens of the longest, H the text model's hidden size, K options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from semcore.models.batching import Prompt, batches_by_length, last_hidden, model_inputs
from semcore.models.checkpoint import Checkpoint
from semcore.models.tokenization import chat_prompt, tokenize
from semcore.runtime.errors import UserError

LETTERS = "ABCDEFGHIJ"
TOKENS_PER_BATCH = 16_384


def option_tokens(tokenizer: Any, turn: str = "?", letters: Sequence[str] = LETTERS) -> list[int]:
    """Return the token of each letter, in the context right after a prompt.

    Args:
        tokenizer: the checkpoint's.
        turn: the user's turn before the answer.
        letters: the answers.

    Raises:
        UserError: a letter is not a single token there.
    """
    prompt = chat_prompt(tokenizer, turn)
    before = tokenize(tokenizer, prompt)
    tokens = []
    for letter in letters:
        whole = tokenize(tokenizer, prompt + letter)
        if whole[: len(before)] != before or len(whole) != len(before) + 1:
            raise UserError(
                f"the option {letter} is not a single token in this checkpoint's vocabulary, so verification cannot "
                "read it; use --verifier likelihood"
            )
        tokens.append(whole[-1])
    if len(set(tokens)) != len(letters):
        raise UserError("two options are the same token in this checkpoint's vocabulary; use --verifier likelihood")
    return tokens


@torch.inference_mode()
def read_options(
    checkpoint: Checkpoint, rows: Sequence[Prompt], options: Sequence[int], tokens_per_batch: int = TOKENS_PER_BATCH
) -> torch.Tensor:
    """Return the options' logits right after each prompt, (rows, K), float32 on the CPU.

    Only the last position is multiplied with the output head, and only with the options' rows.

    Args:
        checkpoint: the model.
        rows: prompts with their images; those of similar length share a forward pass.
        options: token ids, from `option_tokens`.
        tokens_per_batch: bounds the memory of a forward pass.
    """
    logits = torch.empty(len(rows), len(options))
    for places, batch in batches_by_length(rows, [len(row.tokens) for row in rows], tokens_per_batch):
        inputs = model_inputs(checkpoint, batch)
        logits[places] = option_logits(checkpoint, last_hidden(checkpoint.model, **inputs)[:, -1], options)
    return logits


def option_logits(checkpoint: Checkpoint, states: torch.Tensor, options: Sequence[int]) -> torch.Tensor:
    """Return the options' logits (B, K) after the last layer's states (B, H), float32 on the CPU."""
    head = checkpoint.model.get_output_embeddings()
    weight = head.weight[list(options)].float()
    bias = 0 if head.bias is None else head.bias[list(options)].float()
    return (states.float() @ weight.T + bias).cpu()
