"""Chunked training loss, which never holds the logits of all positions.

With a vocabulary of 151,674 tokens the logits of a thousand labels are 600 MB in float32, and as much
again for their gradient. Here the output head and the cross-entropy run over one chunk of positions at a
time, and again in the backward pass, which adds a third to the head's work. What neighbouring papers add to the
cross-entropy (`semcore.training.objective`) is computed in the same way.

Shapes: B rows, W tokens of the longest window, H the text model's hidden size, n positions with a label, E examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from semcore.models.set_head import find_set_head
from semcore.runtime.peft_models import without_adapter
from semcore.training.objective import EXAMPLES, KEYS, PROMPT_OF, RIGHT_ANSWERS, SET_TARGETS, Objective, Ranking
from semcore.training.packing import IGNORED
from semcore.training.ranking_loss import ranking_loss
from semcore.training.rdrop import two_pass_losses
from semcore.training.set_loss import pool_packed, set_losses

ELEMENTS_PER_CHUNK = 2**25
"""Logits computed at once: 128 MB in float32."""
PLAIN = Objective()

Head = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def chunked_loss(
    model: Any, elements_per_chunk: int = ELEMENTS_PER_CHUNK, objective: Objective = PLAIN
) -> Iterator[None]:
    """Let a model compute its training loss in chunks; in the context its `logits` are the last states.

    The head is still called as a module, so adapters on it, DeepSpeed's hooks and a weight tied to the
    embedding work unchanged. It is called once a pass, whatever the objective: ZeRO-3 gathers its weight for that.

    Args:
        model: a native InternVL model, or an adapter on one.
        elements_per_chunk: positions times vocabulary of a chunk.
        objective: what is minimised; its batches are those of a `Collator` that knows it.
    """
    base: Any = without_adapter(model)
    head = base.get_output_embeddings()
    plain_forward, plain_loss = head.forward, base.loss_function
    chunk_size = max(1, elements_per_chunk // base.config.text_config.vocab_size)
    further = _Further()

    def forward(states: torch.Tensor, labels: torch.Tensor | None = None, shares: Any = None) -> torch.Tensor:
        if labels is None:
            return states
        tempered = _divided(plain_forward, objective.temperature)
        if objective.ranking is not None:
            return label_losses(tempered, states, labels, chunk_size)
        if objective.rdrop > 0:
            return both_passes(tempered, states, labels, chunk_size)
        return summed_cross_entropy(tempered, states, labels, chunk_size, shares)

    def loss(
        logits: torch.Tensor,
        shift_labels: torch.Tensor,
        num_items_in_batch: Any = None,
        label_choices: torch.Tensor | None = None,
        label_shares: torch.Tensor | None = None,
        **_: Any,
    ) -> Any:
        labels, shares = shift_labels.flatten().to(logits.device), None
        counted = (labels != IGNORED).nonzero()[:, 0]
        if label_choices is not None and label_shares is not None:
            labels, shares = (own.flatten(0, 1).to(logits.device) for own in (label_choices, label_shares))
            shares = shares[counted]
        total = head(logits.flatten(0, 1)[counted], labels[counted], shares)
        if objective.ranking is not None:
            examples = further.batch[EXAMPLES].to(logits.device).flatten()[counted]
            return ranked(total, examples, further, objective.ranking, num_items_in_batch)
        num_labels = len(counted) if num_items_in_batch is None else num_items_in_batch
        if objective.rdrop > 0:
            total = total[0] + 2 * objective.rdrop * total[1]  # two labels for each that is compared
        if objective.set_weight > 0:
            total = total + objective.set_weight * _set_total(base, further, objective).to(total.device)
        return total / num_labels

    head.forward, base.loss_function = forward, loss
    hooks = further.watch(base, keep_states=objective.set_weight > 0) if objective != PLAIN else []
    try:
        yield
    finally:
        head.forward, base.loss_function = plain_forward, plain_loss
        for hook in hooks:
            hook.remove()


class _Further:
    """What the objective reads of a pass beside states and labels.

    Attributes:
        batch: the entries of the batch that `objective_keys` made.
        states: the last states of all tokens, where they are kept.
    """

    def __init__(self) -> None:
        self.batch: dict[str, torch.Tensor] = {}
        self.states: torch.Tensor | None = None

    def watch(self, base: Any, *, keep_states: bool) -> list[Any]:
        """Take the entries out of each batch, which the model does not know; return the hooks."""

        def take(_module: Any, inputs: tuple[Any, ...], batch: dict[str, Any]) -> Any:
            self.batch = {name: batch.pop(name) for name in KEYS if name in batch}
            return inputs, batch

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            self.states = output.last_hidden_state

        hooks = [base.register_forward_pre_hook(take, with_kwargs=True)]
        return [*hooks, base.get_decoder().register_forward_hook(keep)] if keep_states else hooks


def ranked(losses: torch.Tensor, examples: torch.Tensor, further: _Further, ranking: Ranking, num_labels: Any) -> Any:
    """Return the cross-entropy of the right answers' labels and the weighted ranking loss, each as a mean, ().

    Args:
        losses: of every label, -log p (n,).
        examples: which answer each label belongs to (n,).
        further: which answers are right, and of which query.
        ranking: the ranking loss.
        num_labels: of the right answers of a whole step, None for those here.
    """
    right = further.batch[RIGHT_ANSWERS].to(losses.device)
    rows = _rows_of(further.batch[PROMPT_OF].to(losses.device), len(right))
    log_probs = losses.new_zeros(len(right)).index_add(0, examples, -losses)
    of_right = right[examples]
    num_queries = ranking.num_queries or len(rows.unique())
    generation = losses[of_right].sum() / (of_right.sum() if num_labels is None else num_labels)
    return generation + ranking.weight * ranking_loss(log_probs, rows, right, ranking) / num_queries


def _rows_of(prompt_of: torch.Tensor, num_examples: int) -> torch.Tensor:
    """Return the row of each example, (E,)."""
    rows, places = (prompt_of >= 0).nonzero(as_tuple=True)
    return rows.new_zeros(num_examples).scatter(0, prompt_of[rows, places], rows)


def _set_total(base: Any, further: _Further, objective: Objective) -> torch.Tensor:
    """Return the set head's loss, each example as often as its answer has labels, ().

    So it is divided by the labels of a step, like the cross-entropy: rows hold unequally many examples, and only the
    labels are counted over processes and micro batches.
    """
    head, states = find_set_head(base), further.states
    further.states = None
    if head is None or states is None:
        raise ValueError("a loss of the set head needs a model that has one")
    keys = {name: tensor.to(states.device) for name, tensor in further.batch.items()}
    targets, examples = keys[SET_TARGETS], keys[EXAMPLES]
    labels = examples[examples >= 0]
    num_labels = labels.new_zeros(len(targets)).index_add(0, labels, torch.ones_like(labels))
    logits = head(pool_packed(states, keys[PROMPT_OF], len(targets), head.pool))
    return (set_losses(logits, targets, objective.set_loss) * num_labels).sum()


def summed_cross_entropy(
    head: Head, states: torch.Tensor, labels: torch.Tensor, chunk_size: int, shares: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the sum of the cross-entropies of labels after states (n, H), in float32.

    Args:
        head: maps states (n, H) to logits (n, vocabulary).
        states: states (n, H) of the positions that have a label.
        labels: token ids (n,); with shares those of the C tokens that share each label's place, (n, C).
        chunk_size: positions at once; with a single chunk nothing is computed twice.
        shares: each token's probability as the label, (n, C); None where every label is one token.
    """
    if shares is None:
        chunks = _in_chunks(partial(_cross_entropy, head, "sum"), chunk_size, states, labels)
    else:
        chunks = _in_chunks(partial(_shared_cross_entropy, head), chunk_size, states, labels, shares)
    return chunks[0] if len(chunks) == 1 else torch.stack(chunks).sum()


def label_losses(head: Head, states: torch.Tensor, labels: torch.Tensor, chunk_size: int) -> torch.Tensor:
    """Return the cross-entropy of each label, (n,); arguments as in `summed_cross_entropy`."""
    return torch.cat(_in_chunks(partial(_cross_entropy, head, "none"), chunk_size, states, labels))


def both_passes(head: Head, states: torch.Tensor, labels: torch.Tensor, chunk_size: int) -> torch.Tensor:
    """Return summed cross-entropy and divergence, (2,), of states whose second half is another pass over the first.

    Other arguments as in `summed_cross_entropy`.
    """
    first, second = states.chunk(2)
    chunks = _in_chunks(partial(two_pass_losses, head), max(1, chunk_size // 2), first, second, labels.chunk(2)[0])
    return torch.stack(chunks).sum(0)


def _cross_entropy(head: Head, reduction: str, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(head(states).float(), labels, reduction=reduction)


def _shared_cross_entropy(head: Head, states: torch.Tensor, labels: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    return -(head(states).float().log_softmax(-1).gather(1, labels) * shares).sum()


def _in_chunks(one: Callable[..., torch.Tensor], chunk_size: int, *tensors: torch.Tensor) -> list[torch.Tensor]:
    if len(tensors[0]) <= chunk_size:
        return [one(*tensors)]
    chunks = zip(*(tensor.split(chunk_size) for tensor in tensors), strict=True)
    return [checkpoint(one, *chunk, use_reentrant=False) for chunk in chunks]


def _divided(head: Head, temperature: float) -> Head:
    """Return a head whose logits are divided by a temperature."""
    if temperature == 1.0:
        return head
    return lambda states: head(states) / temperature
