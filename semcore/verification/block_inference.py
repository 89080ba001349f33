"""Inference in candidate blocks: the blocks' cached states, and one pass over letters, closing tokens and tail.

Shapes: B questions, C tokens of the longest head with its blocks, R tokens of the pass, K slots,
N layers, G key-value heads, d a head's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache

from semcore.data.directions import Direction
from semcore.decoding.key_value_cache import cache_argument
from semcore.models.attention_masks import PADDING, additive, causal, pad
from semcore.models.batching import Prompt, batches_by_length, embed_tokens
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import Prompts
from semcore.models.tokenization import expand_images, tokenize
from semcore.runtime.errors import UserError
from semcore.verification.block_cache import MOST_BYTES, Block, BlockStates
from semcore.verification.block_layout import block_tokens, check_templates, cut_question, slot_starts
from semcore.verification.option_logits import TOKENS_PER_BATCH, option_logits
from semcore.verification.question import Question
from semcore.verification.rope_shift import check_rope_shift, longest_question, rotary_frequencies, shift_keys

TAIL, NO_BLOCK = 0, -2
TEXTS_KEPT = 2**16


class _Row(NamedTuple):
    """The tokens of a question's pass; slots count from 1."""

    head: tuple[int, ...]
    blocks: list[Block]
    slot_tokens: list[int]
    """K letters, then K closing tokens."""
    tail: Prompt

    @property
    def starts(self) -> list[int]:
        return slot_starts(len(self.head), [len(block.tokens) for block in self.blocks])

    @property
    def tokens(self) -> list[int]:
        return [*self.slot_tokens, *self.tail.tokens]

    @property
    def positions(self) -> list[int]:
        *letters, tail = self.starts
        closings = [start + 1 + len(block.tokens) for start, block in zip(letters, self.blocks, strict=True)]
        return [*letters, *closings, *range(tail, tail + len(self.tail.tokens))]

    @property
    def slots(self) -> list[int]:
        """Return the slot of each token, and `TAIL` for those that attend to all."""
        return [*range(1, len(self.blocks) + 1)] * 2 + [TAIL] * len(self.tail.tokens)

    @property
    def sees_block(self) -> list[int]:
        """Return the slot whose block each token attends to; `TAIL` attends to all."""
        count = len(self.blocks)
        return [NO_BLOCK] * count + [*range(1, count + 1)] + [TAIL] * len(self.tail.tokens)

    @property
    def sizes(self) -> torch.Tensor:
        """Return the numbers of tokens of head and blocks, (1 + K,)."""
        return torch.tensor([len(self.head), *(len(block.tokens) for block in self.blocks)])

    @property
    def cached_slots(self) -> torch.Tensor:
        """Return 0 for the tokens of the head and the slot of those of the blocks, (C,)."""
        return torch.arange(1 + len(self.blocks)).repeat_interleave(self.sizes)

    @property
    def shifts(self) -> list[int]:
        """Return how many positions the keys of the head, and of each block, are shifted by."""
        first, *others, _ = self.starts
        return [0, 0, *(start - first for start in others)]

    @property
    def length(self) -> int:
        return self.starts[-1] + len(self.tail.tokens)


class BlockReader:
    """Inference with a verifier that was trained with candidate blocks; a candidate is read once for all questions.

    Args:
        checkpoint: the verifier.
        prompts: hold "verify_t2i" and "verify_i2t".
        most_bytes: memory of the candidates' states, at most.
        tokens_per_batch: bounds the memory of a forward pass.

    Raises:
        UserError: the templates or the model's position embedding do not support blocks.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        prompts: Prompts,
        *,
        most_bytes: int = MOST_BYTES,
        tokens_per_batch: int = TOKENS_PER_BATCH,
    ):
        check_blocks(checkpoint, prompts)
        self._checkpoint, self._prompts, self._tokens_per_batch = checkpoint, prompts, tokens_per_batch
        self._block_tokens = lru_cache(TEXTS_KEPT)(lambda *text: block_tokens(checkpoint.tokenizer, *text))
        self.states = BlockStates(checkpoint, most_bytes, tokens_per_batch)

    @torch.inference_mode()
    def read_options(
        self,
        direction: Direction,
        questions: Sequence[Question],
        features: Mapping[str, torch.Tensor],
        options: Sequence[int],
    ) -> torch.Tensor:
        """Return the options' logits right after each question, (questions, options), float32 on the CPU.

        Args:
            direction: "t2i" or "i2t".
            questions: with at most as many choices as options.
            features: image id -> visual features (visual tokens, hidden), of all images in the questions.
            options: the letters' tokens, from `option_tokens`; the slots begin with them.

        Raises:
            UserError: a question is too long for the model.
        """
        rows = [self._row(direction, question, features, options) for question in questions]
        longest, most = max((row.length for row in rows), default=0), longest_question(self._checkpoint.model)
        if longest > most:
            raise UserError(
                f"a question takes {longest} tokens, and this model's position embedding stays the same up to {most}; "
                "give fewer --num-candidates, or train the verifier with --attention full"
            )
        logits = torch.empty(len(rows), len(options))
        for places, batch in batches_by_length(rows, [row.length for row in rows], self._tokens_per_batch):
            logits[places] = option_logits(self._checkpoint, self._last_states(batch), options)
        return logits

    def _row(
        self, direction: Direction, question: Question, features: Mapping[str, torch.Tensor], options: Sequence[int]
    ) -> _Row:
        tokenizer = self._checkpoint.tokenizer
        head, texts, tail = cut_question(tokenizer, self._prompts, direction, question)
        blocks, closings = [], []
        for text, choice in zip(texts, question.choices, strict=True):
            seen = features[choice.item_id] if direction.items_are_images else None
            tokens, closing = self._block_tokens(text, () if seen is None else (len(seen),))
            blocks.append(Block(tokens, "" if seen is None else choice.item_id, seen))
            closings.append(closing)
        images = (features[question.query],) if direction.queries_are_images else ()
        end = Prompt(tokenize(tokenizer, expand_images(tail, [len(image) for image in images])), images)
        return _Row(tuple(tokenize(tokenizer, head)), blocks, [*options[: len(blocks)], *closings], end)

    def _last_states(self, rows: Sequence[_Row]) -> torch.Tensor:
        """Return the last layer's state at the last position of each row, (B, H)."""
        checkpoint, device = self._checkpoint, self._checkpoint.device
        cached = pad([row.cached_slots.tolist() for row in rows], PADDING, "right")
        slots = pad([row.slots for row in rows], PADDING, "left")
        sees = pad([row.sees_block for row in rows], PADDING, "left")
        token_ids = pad([row.tokens for row in rows], checkpoint.filler_token_id, "left").to(device)
        embeds = embed_tokens(checkpoint, token_ids, [image for row in rows for image in row.tail.images])
        decoder = checkpoint.model.get_decoder()
        states = decoder(
            inputs_embeds=embeds,
            attention_mask=_mask(cached, slots, sees, embeds.dtype).to(device),
            position_ids=pad([row.positions for row in rows], 0, "left").to(device),
            **cache_argument(decoder, self._cache(rows, cached.shape[1])),
            use_cache=True,
        )
        return states.last_hidden_state[:, -1]

    def _cache(self, rows: Sequence[_Row], length: int) -> DynamicCache:
        """Concatenate the states of head and blocks, (B, G, C, d) per layer, with keys shifted to their slots."""
        frequencies = rotary_frequencies(self._checkpoint.model)
        head = rows[0].head  # of all rows: `check_templates` ensures that it does not depend on the query
        blocks = iter(self.states.of(head, [block for row in rows for block in row.blocks]))
        before = self.states.of_head(head)
        num_layers, _, num_heads, _, size = before.shape
        whole = before.new_empty(num_layers, 2, len(rows), num_heads, length, size)
        for number, row in enumerate(rows):
            parts, distances = [before, *(next(blocks) for _ in row.blocks)], torch.tensor(row.shifts).to(before.device)
            filled = 0
            for own, distance in zip(parts, distances, strict=True):
                place = whole[:, :, number, :, filled : filled + own.shape[3]]
                place[:, 0] = shift_keys(own[:, 0], distance, frequencies)
                place[:, 1] = own[:, 1]
                filled += own.shape[3]
            whole[:, :, number, :, filled:] = 0  # masked, but NaN would come through the mask
        cache = DynamicCache()
        for number, (keys, values) in enumerate(whole):
            cache.update(keys[..., :0, :], values[..., :0, :], number)  # makes the layer, and would copy the rest
            layer: Any = cache.layers[number]
            layer.keys, layer.values = keys, values
        return cache


def check_blocks(checkpoint: Checkpoint, prompts: Prompts) -> None:
    """Check that a model and its prompts support candidate blocks.

    Raises:
        UserError: the templates or the model's position embedding do not support them.
    """
    check_templates(checkpoint.tokenizer, prompts)
    check_rope_shift(checkpoint.model)


def _mask(cached: torch.Tensor, slots: torch.Tensor, sees: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the additive mask (B, 1, R, C + R): all attend to the head, a slot's tokens to the slot, the tail to all.

    Args:
        cached: 0 for the head, the slot of a block, `PADDING`; (B, C).
        slots: the slot of a token, `TAIL`, `PADDING`; (B, R).
        sees: the slot whose block a token attends to, `TAIL` for all, `NO_BLOCK`; (B, R).
        dtype: the model's.
    """
    among = (sees[:, :, None] == TAIL) | (sees[:, :, None] == cached[:, None, :])
    behind = (cached[:, None, :] == 0) | ((cached[:, None, :] > 0) & among)
    same = (slots[:, :, None] == TAIL) | (slots[:, :, None] == slots[:, None, :])
    among_slots = same & causal(slots.shape[1]) & (slots[:, None, :] != PADDING)
    return additive(torch.cat([behind, among_slots], dim=2), dtype)
