"""Corpus of a search: items by id, and the index of their identifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
    """The items that are searched, by id, and the index of their identifiers.

    Attributes:
        items: item id -> the item.
        index: of every identifier of every item.
        texts: token sequence -> identifier; empty where every item has one identifier.
    """

    items: dict[str, Item]
    index: IdentifierIndex
    texts: Mapping[tuple[int, ...], str] = field(default_factory=dict)

    def text_of(self, sequence: Sequence[int], item_id: str) -> str:
        """Return the identifier that a sequence is, one of an item's."""
        return self.texts[tuple(sequence)] if self.texts else self.items[item_id].identifier


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
    texts = {}
    if any(item.more for item in items):
        tokens = _tokens(checkpoint, _prompt(session, direction), items)
        texts = {tuple(sequence): text for text, sequence in tokens.items()}
    return Corpus({item.item_id: item for item in items}, index.to(checkpoint.device), texts)


def corpus_key(session: ModelSession, direction: Direction, items: Sequence[Item]) -> str:
    """Return the key of the items' index, as `semcore.retrieval.saved_index` keeps it."""
    rows = [(item.item_id, identifier) for item in items for identifier in item.identifiers]
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
    rows = [(item.item_id, identifier) for item in items for identifier in item.identifiers]
    tokens = _tokens(checkpoint, prompt, items)
    _check_new_tokens(checkpoint, items[0].identifier)
    return IdentifierIndex.from_sequences([tokens[text] for _, text in rows], [item_id for item_id, _ in rows])


def _tokens(checkpoint: Checkpoint, prompt: str, items: Sequence[Item]) -> dict[str, list[int]]:
    """Return identifier -> its tokens after a prompt."""
    texts = dict.fromkeys(text for item in items for text in item.identifiers)
    return {text: answer_tokens(checkpoint.tokenizer, prompt, text) for text in texts}


def _check_new_tokens(checkpoint: Checkpoint, identifier: str) -> None:
    cluster = identifier[: identifier.find("|>") + 2] if identifier.startswith("<|") else ""
    if cluster and cluster not in checkpoint.tokenizer.get_vocab():
        raise UserError(
            f"{checkpoint.path} does not know the token {cluster} of the identifiers; it was trained on others: "
            "train it again with recipes/train_identifier.py"
        )
