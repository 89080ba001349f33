"""Set head: the units of an identifier read as a set, weighed for a query by one linear layer.

ComGTIR (sections 3.3 and 4.2) reads the codes of an identifier twice: as a sequence, which is generated, and as a set,
whose weights for a query say which whole identifiers are likely before the first token is written. Units are codes,
cluster tokens and whole keywords, not pieces of words: a piece of a rare word says little by itself.

    z = W p + b,  p the maximum of the prompt's last states (or the last token's)      (equation 6, pooled before W)
    h = log(1 + relu(z)),  s(q, m) = the sum of h over the units of m                   (equations 6 and 7)

Shapes: Q queries, P prompt tokens, H the text model's hidden size, U units, N items, K units of an item at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from semcore.data.identifier_files import IdentifierRow, identifier_parts
from semcore.runtime.peft_models import without_adapter

Pool = Literal["max", "last"]
SET_HEAD = "set_head"
_SPECIAL = re.compile(r"<\|[^|<>]+\|>")


class SetHead(nn.Module):
    """Linear layer from a prompt's pooled states to a logit for each unit.

    Attributes:
        units: what each logit is for, (U,).
        pool: "max" over the prompt's tokens, or the "last" one's state.
    """

    def __init__(self, units: Sequence[str], hidden_size: int, pool: Pool = "max"):
        super().__init__()
        self.units, self.pool = tuple(units), pool
        self.linear = nn.Linear(hidden_size, len(self.units))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Return the logits (Q, U) of pooled states (Q, H), in float32."""
        weight = self.linear.weight
        logits: torch.Tensor = self.linear(pooled.to(weight.device, weight.dtype))
        return logits.float().to(pooled.device)

    def weigh(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the weight of every unit for each query, h >= 0 (Q, U) (equation 6).

        Args:
            states: the last states of left-padded prompts (Q, P, H).
            mask: which tokens are not padding (Q, P).
        """
        logits: torch.Tensor = self(pool_prompts(states, mask, self.pool))
        return logits.relu().log1p()


def units_of(row: IdentifierRow) -> tuple[str, ...]:
    """Return the units of an identifier: its special tokens and its keywords; its words where it has no keywords.

    >>> from semcore.data.identifier_files import make_row
    >>> units_of(make_row("i", "train", 17, ["dog", "ice cream"]))
    ('<|cluster_17|>', 'dog', 'ice cream')
    """
    if row["lexical_id"] or "codes" in row:
        return tuple(dict.fromkeys(identifier_parts(row)))
    return units_of_text(row["identifier"])


def units_of_text(identifier: str) -> tuple[str, ...]:
    """Return the special tokens and the words of an identifier.

    >>> units_of_text("<|cluster_17|>dog park")
    ('<|cluster_17|>', 'dog', 'park')
    """
    return tuple(dict.fromkeys([*_SPECIAL.findall(identifier), *_SPECIAL.sub(" ", identifier).split()]))


def units_by_identifier(rows: Iterable[IdentifierRow]) -> dict[str, tuple[str, ...]]:
    """Return the units of every identifier of some items, further ones of the same item too."""
    units: dict[str, tuple[str, ...]] = {}
    for row in rows:
        units |= {text: units_of_text(text) for text in row.get("more", ())} | {row["identifier"]: units_of(row)}
    return units


def set_vocabulary(rows: Iterable[IdentifierRow]) -> tuple[str, ...]:
    """Return the units of all rows, each once, sorted."""
    return tuple(sorted({unit for own in units_by_identifier(rows).values() for unit in own}))


def unit_numbers(rows: Iterable[IdentifierRow], units: Sequence[str]) -> dict[str, list[int]]:
    """Return identifier -> the numbers of its units in the vocabulary `units`; unknown units are left out."""
    number = {unit: place for place, unit in enumerate(units)}
    known = units_by_identifier(rows)
    return {text: [number[unit] for unit in own if unit in number] for text, own in known.items()}


def pool_prompts(states: torch.Tensor, mask: torch.Tensor, pool: Pool) -> torch.Tensor:
    """Return one vector a query (Q, H).

    Args:
        states: the last states of left-padded prompts (Q, P, H).
        mask: which tokens are not padding (Q, P).
        pool: "max" over them, or the "last" one.
    """
    if pool == "last":
        return states[:, -1]
    return states.masked_fill(~mask.bool()[:, :, None], -torch.inf).amax(1)


def item_scores(weights: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
    """Return the sum of each query's weights over each item's units, (Q, N) (ComGTIR, equation 7).

    Args:
        weights: of every unit for each query (Q, U), from `semcore.models.set_inference`.
        units: numbers of the items' units, -1 where an item has fewer (N, K).
    """
    padded = torch.cat([weights, weights.new_zeros(len(weights), 1)], dim=1)
    scores = weights.new_zeros(len(weights), len(units))
    for column in units.unbind(1):  # one at a time: (Q, N, K) could be large
        scores += padded[:, column]
    return scores


def padded_units(numbers: Iterable[Sequence[int]]) -> torch.Tensor:
    """Return lists of unit numbers as a tensor (N, K), padded with -1."""
    rows = [list(own) for own in numbers]
    most = max((len(own) for own in rows), default=0)
    return torch.tensor([own + [-1] * (most - len(own)) for own in rows], dtype=torch.long).reshape(len(rows), most)


def find_set_head(model: Any) -> SetHead | None:
    """Return a model's set head, None where it has none."""
    return getattr(without_adapter(model), SET_HEAD, None)


def new_set_head(model: Any, tokenizer: Any, units: Sequence[str], pool: Pool = "max") -> SetHead:
    """Attach a set head to a model whose rows start where its output head has them, with bias 0, and return it.

    ComGTIR starts its head at the codebook; a code's row of the output head starts there too, if asked for, and a
    keyword's row is the mean of its tokens'.

    Args:
        model: a native InternVL model, or an adapter on one, with the identifiers' tokens.
        tokenizer: its tokenizer.
        units: the set vocabulary, from `set_vocabulary`.
        pool: see `SetHead`.
    """
    base: Any = without_adapter(model)
    rows = base.get_output_embeddings().weight.detach()
    head = SetHead(units, rows.shape[1], pool)
    spelled = [unit if _SPECIAL.fullmatch(unit) else f" {unit}" for unit in units]
    with torch.no_grad():
        for number, text in enumerate(spelled):
            known = tokenizer(text, add_special_tokens=False)["input_ids"]
            head.linear.weight[number] = (rows[known] if known else rows).float().mean(0)
        head.linear.bias.zero_()
    attach_set_head(model, head)
    return head


def attach_set_head(model: Any, head: SetHead) -> None:
    """Make a set head a submodule of a model, on the model's device."""
    base: Any = without_adapter(model)
    base.add_module(SET_HEAD, head.to(base.device))
