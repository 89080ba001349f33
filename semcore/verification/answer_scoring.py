"""Log-probabilities of given answers to a prompt, many answers in one row.

The answers follow the prompt side by side; in an additive mask each attends only to the prompt and itself,
and its positions continue from the prompt's end. So a prompt is read once for all of its answers, exactly
and without a cache.

Shapes: B rows, L tokens of the longest, H the text model's hidden size, n tokens scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch.nn import functional

from semcore.models.attention_masks import PADDING, additive, causal, pad, visible_branches
from semcore.models.batching import Prompt, batches_by_length, embed_tokens
from semcore.models.checkpoint import Checkpoint

ANSWER_TOKENS_PER_ROW = 224
ANSWERS_TO_PROMPT = 3  # answer tokens per prompt token in a row
TOKENS_PER_BATCH = 8_192
ELEMENTS_A_BLOCK = 2**24


class ScoringRequest(NamedTuple):
    """A prompt and the answers (token ids, end token included) to score after it."""

    prompt: Prompt
    answers: Sequence[Sequence[int]]


@dataclass
class _Row:
    """A prompt and some of its answers; `answers` has their keys, (request, answer)."""

    prompt: Prompt
    answers: list[tuple[int, int]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    def add(self, key: tuple[int, int], answer: Sequence[int]) -> None:
        """Add an answer to the row; its last token is predicted, never read."""
        branch, length = len(self.answers) + 1, len(self.prompt.tokens)
        first = length + len(self.tokens)
        self.states += [length - 1, *range(first, first + len(answer) - 1)]
        self.targets += answer
        self.owners += [branch - 1] * len(answer)
        self.tokens += answer[:-1]
        self.positions += range(length, length + len(answer) - 1)
        self.branches += [branch] * (len(answer) - 1)
        self.answers.append(key)

    @property
    def length(self) -> int:
        return len(self.prompt.tokens) + len(self.tokens)


@torch.inference_mode()
def answer_log_probabilities(
    checkpoint: Checkpoint,
    requests: Sequence[ScoringRequest],
    *,
    answer_tokens_per_row: int | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> list[list[float]]:
    """Return, for each prompt, the sum of each answer's token log-probabilities.

    Args:
        checkpoint: the model.
        requests: prompts with their answers.
        answer_tokens_per_row: answer tokens per row, at most: more waste attention, fewer repeat the prompt. By
            default in proportion to the prompt's length.
        tokens_per_batch: bounds the memory of a forward pass.
    """
    rows = [row for number, request in enumerate(requests) for row in _pack(number, request, answer_tokens_per_row)]
    sums: dict[tuple[int, int], float] = {}
    for _, batch in batches_by_length(rows, [row.length for row in rows], tokens_per_batch):
        scores = _score(checkpoint, batch)
        keys = [key for row in batch for key in row.answers]
        sums.update(zip(keys, scores.tolist(), strict=True))
    return [[sums[number, place] for place in range(len(request.answers))] for number, request in enumerate(requests)]


def _pack(number: int, request: ScoringRequest, most: int | None) -> list[_Row]:
    if most is None:
        most = max(ANSWER_TOKENS_PER_ROW, ANSWERS_TO_PROMPT * len(request.prompt.tokens))
    rows: list[_Row] = []
    for place, answer in enumerate(request.answers):
        if not rows or len(rows[-1].tokens) + len(answer) - 1 > most:
            rows.append(_Row(request.prompt))
        rows[-1].add((number, place), answer)
    return rows


def _score(checkpoint: Checkpoint, rows: Sequence[_Row]) -> torch.Tensor:
    """Return the log-probability of every answer of the rows, in order, float32 on the CPU."""
    states = _forward(checkpoint, rows)
    device = states.device
    gathered = torch.cat([states[row, torch.tensor(own.states, device=device)] for row, own in enumerate(rows)])
    targets = torch.tensor([token for row in rows for token in row.targets], device=device)
    gains = _token_log_probabilities(checkpoint, gathered, targets)
    first, owners = 0, []
    for row in rows:
        owners += [first + owner for owner in row.owners]
        first += len(row.answers)
    return torch.zeros(first, device=device).index_add_(0, torch.tensor(owners, device=device), gains).cpu()


def _forward(checkpoint: Checkpoint, rows: Sequence[_Row]) -> torch.Tensor:
    """Return the last layer's states (B, L, H)."""
    filler = checkpoint.filler_token_id
    token_ids = pad([[*row.prompt.tokens, *row.tokens] for row in rows], filler, "right")
    positions = pad([[*range(len(row.prompt.tokens)), *row.positions] for row in rows], 0, "right")
    branches = pad([[0] * len(row.prompt.tokens) + row.branches for row in rows], PADDING, "right")
    visible = visible_branches(branches) & causal(branches.shape[1])
    images = [image for row in rows for image in row.prompt.images]
    device = checkpoint.device
    embeds = embed_tokens(checkpoint, token_ids.to(device), images)
    return checkpoint.model.get_decoder()(
        inputs_embeds=embeds,
        attention_mask=additive(visible, embeds.dtype).to(device),
        position_ids=positions.to(device),
        use_cache=False,
    ).last_hidden_state


def _token_log_probabilities(checkpoint: Checkpoint, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return log p of each target after its state, float32 (n,), one block of rows at a time.

    The head is multiplied in float32 whatever the model's precision: differences between
    candidates are smaller than bfloat16's rounding of a logit.
    """
    head = checkpoint.model.get_output_embeddings()
    weight = head.weight.float()
    bias = None if head.bias is None else head.bias.float()
    block = max(1, ELEMENTS_A_BLOCK // len(weight))
    gains = []
    for first in range(0, len(targets), block):
        logits = functional.linear(states[first : first + block].float(), weight, bias)
        gains.append(-functional.cross_entropy(logits, targets[first : first + block], reduction="none"))
    return torch.cat(gains)
