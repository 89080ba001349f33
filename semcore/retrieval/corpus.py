"""Corpus of a search: items by id, and the index of their identifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from semcore.data.corpus_changes import CorpusChanges, picture_path
from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.identifier_files import IdentifierRow
from semcore.data.items_and_queries import Item, items_by_id, read_items
from semcore.data.run_folder import RunFolder
from semcore.decoding import IdentifierIndex
from semcore.decoding.token_sequences import FlatSequences, flatten_long_text
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import IMAGE
from semcore.models.session import ModelSession
from semcore.models.tokenization import answer_tokens, chat_prompt, expand_images, flat_answer_tokens
from semcore.retrieval.saved_index import SavedIndexes, index_key
from semcore.runtime.errors import UserError
from semcore.runtime.long_lists import chosen, joined


@dataclass(frozen=True)
class Corpus:
    """The items that are searched, by id, and the index of their identifiers.

    Attributes:
        items: item id -> the item.
        index: of every identifier of every item.
        texts: token sequence -> identifier; empty where every item has one identifier.
    """

    items: Mapping[str, Item]
    index: IdentifierIndex
    texts: Mapping[tuple[int, ...], str] = field(default_factory=dict)

    def text_of(self, sequence: Sequence[int], item_id: str) -> str:
        """Return the identifier that a sequence is, one of an item's."""
        return self.texts[tuple(sequence)] if self.texts else self.items[item_id].identifier

    def require_single(self, option: str) -> None:
        """Refuse what knows one identifier an item.

        Raises:
            UserError: an item has several; names the option that asks for it.
        """
        if self.texts:
            raise UserError(
                f"{option} goes by one identifier an item, and these items have several: make identifiers with "
                "--per-item 1, or leave it out"
            )


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
    return Corpus(items_by_id(items), index.to(checkpoint.device), texts)


def searched_items(
    run: RunFolder, dataset: Dataset, direction: Direction, split: str | None, changes: CorpusChanges
) -> Sequence[Item]:
    """Return the items that a search goes through: a split's, or all and those that were added; none that is removed.

    Args:
        run: holds the identifiers and the pictures that were added.
        dataset: the dataset that the identifiers were made from.
        direction: which items.
        split: "train", "val" or "test"; all by default, and with them what was added.
        changes: of the run's corpus.

    Raises:
        UserError: there are no identifiers, or they are of another dataset.
    """
    gone = changes.removed | changes.added.keys()
    items = read_items(run, dataset, direction, split)
    if gone:
        items = chosen(items, lambda item: item.item_id not in gone)
    new = [] if split is not None else added_items(run, direction, changes)
    return joined(items, new) if new else items


def added_items(run: RunFolder, direction: Direction, changes: CorpusChanges) -> list[Item]:
    """Return the items of a direction that were added and are still there, in the order of their addition."""
    images = changes.added.values()
    if direction.items_are_images:
        return [_item(own.row, own.image_id, image_path=picture_path(run, own)) for own in images]
    return [
        _item(row, own.image_id, text=sentence.text)
        for own in images
        for row, sentence in zip(own.sentence_rows, own.sentences, strict=True)
    ]


def _item(row: IdentifierRow, image_id: str, *, text: str = "", image_path: Path | None = None) -> Item:
    more = tuple(row.get("more", ()))
    return Item(row["item_id"], image_id, row["identifier"], " ".join(row["lexical_id"]), text, image_path, more)


def update_saved_index(
    session: ModelSession,
    direction: Direction,
    before: Sequence[Item],
    after: Sequence[Item],
    saved: SavedIndexes,
) -> None:
    """Save the index of a corpus that has changed, from the saved one of what it was before where there is one.

    Args:
        session: the generator.
        direction: which items.
        before: what could be found.
        after: what can be found now: some of it, in its order, and behind it what is new.
        saved: where the index is kept.

    Raises:
        UserError: the model lacks the items' cluster tokens.
    """
    prompt = _prompt(session, direction)
    new, gone = (_not_in(these, those) for these, those in ((after, before), (before, after)))
    index = None if new and gone else saved.find(corpus_key(session, direction, before))
    if index is None:
        index = _build_index(session.checkpoint, prompt, after)
    elif new:
        index.add(_sequences(session.checkpoint, prompt, new), [item.item_id for item in new for _ in item.identifiers])
    elif gone:
        index.remove([item.item_id for item in gone])
    saved.keep(corpus_key(session, direction, after), index)


def _not_in(items: Sequence[Item], others: Sequence[Item]) -> Sequence[Item]:
    known = items_by_id(others)
    return chosen(items, lambda item: item.item_id not in known)


def corpus_key(session: ModelSession, direction: Direction, items: Sequence[Item]) -> str:
    """Return the key of the items' index, as `semcore.retrieval.saved_index` keeps it."""
    rows = ((item.item_id, identifier) for item in items for identifier in item.identifiers)
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
    ids = flatten_long_text(item.item_id for item in items for _ in item.identifiers)
    return IdentifierIndex.from_sequences(_sequences(checkpoint, prompt, items), ids)


def _sequences(checkpoint: Checkpoint, prompt: str, items: Sequence[Item]) -> FlatSequences:
    """Return the token sequence of every identifier of every item.

    Raises:
        UserError: the model lacks the tokens of the items' identifiers.
    """
    _check_new_tokens(checkpoint, items[0].identifier)
    texts = (identifier for item in items for identifier in item.identifiers)
    return FlatSequences(*flat_answer_tokens(checkpoint.tokenizer, prompt, texts))


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
