"""Cache of candidate blocks' keys and values, computed once for all questions.

They are kept in memory, on the model's device, and not in the run folder: with 12 KiB per token (1B) they
are seven times as large as the visual features, which are stored already, they change with every training
of the verifier, and a GPU computes a block faster than a disk would return it. Evicted blocks are computed
again; the least recently used ones are evicted first.

Shapes: B rows, L tokens of the longest, N layers, G key-value heads, h tokens of the head,
n of a block, d a head's size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache

from semcore.decoding.key_value_cache import cache_argument
from semcore.models.attention_masks import pad
from semcore.models.batching import batches_by_length, embed_tokens
from semcore.models.checkpoint import Checkpoint

MOST_BYTES = 4 * 2**30
"""A thousand candidates of one tile each at the 1B shape in bfloat16."""

Head = tuple[int, ...]


class Block(NamedTuple):
    """A candidate's tokens; its image is identified by id, and its features are used only if the block is computed."""

    tokens: tuple[int, ...]
    image_id: str = ""
    features: torch.Tensor | None = None
    """Features of its image (visual tokens, hidden)."""

    @property
    def key(self) -> tuple[tuple[int, ...], str]:
        """Return the key of the block's states."""
        return self.tokens, self.image_id


class BlockStates:
    """A least-recently-used cache of blocks' states.

    Args:
        checkpoint: the model that computes them. An id must denote the same image during this object's lifetime.
        most_bytes: memory of the cache, at most.
        tokens_per_batch: bounds the memory of a forward pass.
    """

    def __init__(self, checkpoint: Checkpoint, most_bytes: int, tokens_per_batch: int):
        self._checkpoint, self._most_bytes, self._tokens_per_batch = checkpoint, most_bytes, tokens_per_batch
        self._heads: dict[Head, torch.Tensor] = {}
        self._kept: OrderedDict[tuple[Head, tuple[tuple[int, ...], str]], torch.Tensor] = OrderedDict()
        self.num_read = 0
        self.nbytes = 0

    def of(self, head: Head, blocks: Sequence[Block]) -> list[torch.Tensor]:
        """Return keys and values (N, 2, G, n, d) of blocks, the keys at the positions of the first slot."""
        wanted = {block.key: block for block in blocks}
        found = {key: self._kept[head, key] for key in wanted if (head, key) in self._kept}
        missing = [block for key, block in wanted.items() if key not in found]
        lengths = [len(head) + len(block.tokens) for block in missing]
        for key in found:
            self._kept.move_to_end((head, key))
        for _, batch in batches_by_length(missing, lengths, self._tokens_per_batch):
            for block, states in zip(batch, self._read(head, batch), strict=True):
                found[block.key] = states
                self._keep(head, block, states)
        return [found[block.key] for block in blocks]

    def of_head(self, head: Head) -> torch.Tensor:
        """Return keys and values (N, 2, G, h, d) of the head, after a block behind it was computed."""
        return self._heads[head]

    def _keep(self, head: Head, block: Block, states: torch.Tensor) -> None:
        self._kept[head, block.key] = states
        self.nbytes += states.nbytes
        while self.nbytes > self._most_bytes:
            self.nbytes -= self._kept.popitem(last=False)[1].nbytes

    def _read(self, head: Head, blocks: Sequence[Block]) -> list[torch.Tensor]:
        """Compute each block behind the head, with one position left free for the letter."""
        checkpoint, size = self._checkpoint, len(head)
        rows = [[*head, *block.tokens] for block in blocks]
        token_ids = pad(rows, checkpoint.filler_token_id, "right")
        mask = pad([[1] * len(row) for row in rows], 0, "right")
        positions = torch.arange(token_ids.shape[1])
        positions[size:] += 1
        cache = DynamicCache()
        images = [block.features for block in blocks if block.features is not None]
        decoder = checkpoint.model.get_decoder()
        decoder(
            inputs_embeds=embed_tokens(checkpoint, token_ids.to(checkpoint.device), images),
            attention_mask=mask.to(checkpoint.device),
            position_ids=positions[None].to(checkpoint.device),
            **cache_argument(decoder, cache),
            use_cache=True,
        )
        self.num_read += len(blocks)
        states = stacked(cache)
        if head not in self._heads:
            self._heads[head] = states[:, :, 0, :, :size].clone()
        return [states[:, :, row, :, size : len(own)].clone() for row, own in enumerate(rows)]


def stacked(cache: Any) -> torch.Tensor:
    """Return the keys and values of a `DynamicCache`, (N, 2, B, G, L, d)."""
    return torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])
