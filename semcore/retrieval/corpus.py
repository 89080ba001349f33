"""Corpus of a search: items by id, and the index of their identifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.decoding import IdentifierIndex
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import IMAGE
from semcore.models.session import ModelSession
from semcore.models.tokenization import answer_tokens, chat_prompt, expand_images
from semcore.retrieval.saved_index import SavedIndexes, index_key
from semcore.runtime.errors import UserError


@dataclass(frozen=True)
class Corpus:
    """The items that are searched, by id, and the index of their identifiers."""

    items: dict[str, Item]
    index: IdentifierIndex


def build_corpus(
    session: ModelSession, direction: Direction, items: Sequence[Item], saved: SavedIndexes | None = None
) -> Corpus:
    """Index items by the tokens of their identifiers, tokenized as in training.

    Items that share an identifier keep their order.

    Args:
        session: the generator.
        direction: tells whether the items are images or sentences.
        items: what can be found.
        saved: where the index is kept; by default it is built anew.

    Raises:
        UserError: there is no item, or the model lacks the items' cluster tokens.
    """
    if not items:
        raise UserError("there is no item to search; choose another --split, or make identifiers for it")
    checkpoint = session.checkpoint

    def build() -> IdentifierIndex:
        return _build_index(checkpoint, _prompt(session, direction), items)

    if saved is None:
        index = build()
    else:
        index = saved.load_or_build(corpus_key(session, direction, items), build)
    return Corpus({item.item_id: item for item in items}, index.to(checkpoint.device))


def corpus_key(session: ModelSession, direction: Direction, items: Sequence[Item]) -> str:
    """Return the key of the items' index, as `semcore.retrieval.saved_index` keeps it."""
    rows = [(item.item_id, item.identifier) for item in items]
    checkpoint = session.checkpoint
    return index_key(checkpoint.tokenizer, _prompt(session, direction), checkpoint.end_token_id, rows)


def identifier_tokens(session: ModelSession, direction: Direction, identifier: str) -> list[int]:
    """Return the tokens of an identifier as they are in an index, the end token last."""
    return answer_tokens(session.checkpoint.tokenizer, _prompt(session, direction), identifier)


def _prompt(session: ModelSession, direction: Direction) -> str:
    """Return a prompt that identifiers follow; what it asks for makes no difference to their tokens."""
    turn = chat_prompt(
        session.checkpoint.tokenizer, session.prompts.render(direction.identify_prompt, query="", image=IMAGE)
    )
    return expand_images(turn, [1] * direction.queries_are_images)


def _build_index(checkpoint: Checkpoint, prompt: str, items: Sequence[Item]) -> IdentifierIndex:
    texts = dict.fromkeys(item.identifier for item in items)
    tokens = {text: answer_tokens(checkpoint.tokenizer, prompt, text) for text in texts}
    _check_cluster_tokens(checkpoint, items[0].identifier)
    return IdentifierIndex.from_sequences([tokens[item.identifier] for item in items], [item.item_id for item in items])


def _check_cluster_tokens(checkpoint: Checkpoint, identifier: str) -> None:
    cluster = identifier[: identifier.find("|>") + 2] if identifier.startswith("<|") else ""
    if cluster and cluster not in checkpoint.tokenizer.get_vocab():
        raise UserError(
            f"{checkpoint.path} does not know the token {cluster} of the identifiers; it was trained on others: "
            "train it again with recipes/train_identifier.py"
        )
