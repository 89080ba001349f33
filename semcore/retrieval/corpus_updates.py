"""Additions to a run's corpus and removals from it, while others search it.

A change is prepared first, pictures, features, priors and all, and then takes effect with one line that is appended
(`semcore.data.corpus_changes`). A kill before leaves the corpus as it was, and the same call does it again; after a
kill behind it the same call finds it done, and saves the indexes that the killed one did not come to. Who has the run
open goes on with what was there; `Retriever.refreshed`, and whoever opens it later, sees the change. Identifiers of
items that are there never change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from semcore.data.added_pictures import content_hash, place_picture, remove_abandoned
from semcore.data.caption_files import TextItem
from semcore.data.corpus_changes import (
    ADDED,
    AddedImage,
    CorpusChanges,
    changes_stamp,
    changing,
    picture_path,
    pictures_folder,
    read_changes,
    write_addition,
    write_removal,
)
from semcore.data.dataset import Sentence, is_safe_id, make_safe_id
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.data.new_images import NewImage
from semcore.data.run_folder import RunFolder
from semcore.models.captioning.local import WRITTEN
from semcore.retrieval.corpus import added_items, searched_items, update_saved_index
from semcore.retrieval.item_maker import ItemMaker
from semcore.retrieval.saved_index import SavedIndexes
from semcore.runtime.errors import UnreadableImage, UserError
from semcore.runtime.files import sha256_of
from semcore.runtime.long_lists import chosen, joined
from semcore.runtime.text import clean_text
from semcore.runtime.typed_commands import command


@dataclass(frozen=True)
class Addition:
    """What has become of images that were to be added.

    Attributes:
        added: those that were added.
        already: ids of those that were there before, with the same picture.
        left_out: id -> why, of those that cannot be read or got no caption.
        number: changes of the corpus so far.
    """

    added: list[AddedImage] = field(default_factory=list)
    already: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    number: int = 0


@dataclass(frozen=True)
class _Placed:
    """A new image whose picture is in its place."""

    image: NewImage
    file_name: str
    sha256: str


def add_images(maker: ItemMaker, images: Sequence[NewImage], *, copy: bool = False, progress: bool = False) -> Addition:
    """Add images to the corpus that a run searches, all of them at once.

    Args:
        maker: of the run.
        images: what to add; those that are there already, with the same picture, are left as they are.
        copy: copy picture files instead of linking them.
        progress: show progress bars.

    Raises:
        UserError: an id is used twice, or is another image's, or is no safe id; another process changes the corpus; or
            the run lacks what makes items.
    """
    run = maker.run
    with changing(run):
        maker.require_later_identifiers()
        changes = read_changes(run)
        before = {direction: searched_items(run, maker.dataset, direction, None, changes) for direction in Direction}
        remove_abandoned(run, changes)
        placed, already, left_out = _place_new(run, images, before[Direction.T2I], copy)
        captions = _captions(maker, placed, left_out, progress)
        if not captions:
            _save_left_out_indexes(maker, before)
            return Addition([], already, left_out, changes.number)
        added = _with_identifiers(maker, placed, captions, before)
        maker.store_features({own.image_id: picture_path(run, own) for own in added}, progress=progress)
        after = CorpusChanges(added={own.image_id: own for own in added})
        new = {direction: added_items(run, direction, after) for direction in maker.directions}
        for direction, items in new.items():
            maker.fill_priors(direction, [text for item in items for text in item.identifiers])
        write_addition(run, added)
        for direction, items in new.items():
            _update_index(maker, direction, before[direction], joined(before[direction], items))
    return Addition(added, already, left_out, changes.number + 1)


def remove_items(maker: ItemMaker, item_ids: Collection[str]) -> int:
    """Remove images, with all their sentences, and sentences from the corpus that a run searches, all at once.

    The pictures of the dataset stay where they are; those that were added are deleted after an hour, with the next
    change, since a search that is open may still show them.

    Args:
        maker: of the run.
        item_ids: of images and sentences; what was removed before, and not added again, stays removed.

    Returns:
        The changes of the corpus so far.

    Raises:
        UserError: an id never was in the corpus, a direction would have no items left, or another process changes the
            corpus.
    """
    run = maker.run
    with changing(run):
        changes = read_changes(run)
        before = {direction: searched_items(run, maker.dataset, direction, None, changes) for direction in Direction}
        wanted = _present_ids(run, item_ids, before, changes)
        if not wanted:
            _save_left_out_indexes(maker, before)
            return changes.number
        gone = set(wanted)
        gone |= {item.item_id for item in before[Direction.I2T] if item.image_id in gone}
        after = {d: chosen(items, lambda item: item.item_id not in gone) for d, items in before.items()}
        for direction, items in before.items():
            if items and not after[direction]:
                raise UserError(
                    f"removing these would leave no {direction.item_kind} to search in {run.path}; nothing was removed"
                )
        remove_abandoned(run, changes)
        write_removal(run, [*wanted, *sorted(gone - set(wanted))])
        for direction in maker.directions:
            _update_index(maker, direction, before[direction], after[direction])
    return changes.number + 1


def _update_index(maker: ItemMaker, direction: Direction, before: Sequence[Item], after: Sequence[Item]) -> None:
    """Save the index of what a search without a split goes through."""
    if len(after) != len(before):
        saved = SavedIndexes(maker.run, f"{direction}-all")
        update_saved_index(maker.generator, direction, before, after, saved)


def _save_left_out_indexes(maker: ItemMaker, present: Mapping[Direction, Sequence[Item]]) -> None:
    """Save the indexes that are older than the last change: a process was killed between the two."""
    for direction in maker.directions:
        saved, now = SavedIndexes(maker.run, f"{direction}-all"), present[direction]
        if saved.time_ns < changes_stamp(maker.run)[1] and _has_changed(maker, direction, now):
            update_saved_index(maker.generator, direction, now, now, saved)


def _has_changed(maker: ItemMaker, direction: Direction, present: Sequence[Item]) -> bool:
    """Return whether any change so far concerns a direction: images may come without sentences."""
    original = searched_items(maker.run, maker.dataset, direction, None, CorpusChanges())
    return [item.item_id for item in original] != [item.item_id for item in present]


def _present_ids(
    run: RunFolder, item_ids: Collection[str], present: Mapping[Direction, Sequence[Item]], changes: CorpusChanges
) -> list[str]:
    """Return the ids that are in the corpus, each once; the others have to have been there.

    Raises:
        UserError: some have not.
    """
    known = {item.item_id for items in present.values() for item in items}
    wanted = list(dict.fromkeys(item_ids))
    if missing := [item_id for item_id in wanted if item_id not in known and item_id not in changes.removed]:
        raise UserError(
            f"{missing[0]!r} is no item of {run.path}'s corpus"
            f"{f', and {len(missing) - 1} more are not' if missing[1:] else ''}; nothing was removed"
        )
    return [item_id for item_id in wanted if item_id in known]


def _captions(maker: ItemMaker, placed: Sequence[_Placed], left_out: dict[str, str], progress: bool) -> dict[str, str]:
    """Return image id -> caption, the given one or the captioner's; images that get none join `left_out`."""
    captions = {own.image.image_id: clean_text(own.image.caption) for own in placed}
    pictures = {
        own.image.image_id: pictures_folder(maker.run) / own.file_name
        for own in placed
        if not captions[own.image.image_id]
    }
    for caption in maker.caption(pictures, progress=progress):
        captions[caption.image_id] = caption.text
        if caption.outcome not in WRITTEN:
            left_out[caption.image_id] = f"the captioner's answer is {caption.outcome}: {caption.reason}".rstrip(": ")
            del captions[caption.image_id]
    return captions


def _with_identifiers(
    maker: ItemMaker, placed: Sequence[_Placed], captions: Mapping[str, str], before: Mapping[Direction, Sequence[Item]]
) -> list[AddedImage]:
    """Return the captioned images with their sentences and the identifiers of all.

    Sentences without identifiers, which no search finds, are left out.
    """
    kept, used = [own for own in placed if own.image.image_id in captions], {i.item_id for i in before[Direction.I2T]}
    sentences = [_sentences(own.image, used) for own in kept]
    rows, rows_of_sentences = maker.identify(
        [TextItem(own.image.image_id, ADDED, captions[own.image.image_id]) for own in kept],
        [TextItem(sentence.sentence_id, ADDED, sentence.text) for own in sentences for sentence in own],
        {own.image.image_id: pictures_folder(maker.run) / own.file_name for own in kept},
        lambda: _identifiers_of(before),
    )
    found = {row["item_id"]: row for row in rows_of_sentences}
    added = []
    for own, row, said in zip(kept, rows, sentences, strict=True):
        image_id, known = own.image.image_id, tuple(sentence for sentence in said if sentence.sentence_id in found)
        added.append(
            AddedImage(
                image_id, own.file_name, own.sha256, own.image.source_file, captions[image_id], row, known,
                tuple(found[sentence.sentence_id] for sentence in known),
            )
        )  # fmt: skip
    return added


def _identifiers_of(items: Mapping[Direction, Sequence[Item]]) -> tuple[set[str], set[str]]:
    """Return the identifiers that images have, and those that sentences have."""
    images, sentences = ({item.identifier for item in items[direction]} for direction in (Direction.T2I, Direction.I2T))
    return images, sentences


def _sentences(image: NewImage, used: set[str]) -> tuple[Sentence, ...]:
    """Give the sentences that are not blank ids of their own, which join `used`.

    Raises:
        UserError: a sentence comes with an id that another one has.
    """
    sentences = []
    for given in image.sentences:
        own = given if isinstance(given, Sentence) else Sentence("", given)
        if text := clean_text(own.text):
            sentence_id = own.sentence_id or next(i for n in count() if (i := f"{image.image_id}-{n}") not in used)
            if sentence_id in used:
                raise UserError(
                    f"the corpus has another sentence with the id {sentence_id!r}; give that of image {image.image_id} "
                    "another one"
                )
            used.add(sentence_id)
            sentences.append(Sentence(sentence_id, text))
    return tuple(sentences)


def _place_new(
    run: RunFolder, images: Sequence[NewImage], present: Sequence[Item], copy: bool
) -> tuple[list[_Placed], list[str], dict[str, str]]:
    """Put the pictures of new images into the run; return these, those that were there, and id -> why it was not.

    Raises:
        UserError: an id is used twice, or is another image's, or is no safe id.
    """
    paths = {item.item_id: item.image_path for item in present if item.image_path}
    _check_ids([image.image_id for image in images])
    placed: list[_Placed] = []
    already: list[str] = []
    left_out: dict[str, str] = {}
    for image in images:
        try:
            sha256 = content_hash(image.picture)
            if image.image_id in paths:
                _refuse_another(run, image.image_id, paths[image.image_id], sha256)
                already.append(image.image_id)
            else:
                placed.append(_Placed(image, place_picture(run, image.image_id, image.picture, sha256, copy), sha256))
        except UnreadableImage as reason:
            left_out[image.image_id] = str(reason)
    return placed, already, left_out


def _check_ids(image_ids: Sequence[str]) -> None:
    for image_id, number in Counter(image_ids).items():
        if not is_safe_id(image_id):
            raise UserError(f"image id {image_id!r} is not safe as a file name; {make_safe_id(image_id)!r} would be")
        if number > 1:
            raise UserError(f"image id {image_id!r} is given {number} times; give every image its own")


def _refuse_another(run: RunFolder, image_id: str, path: Path, sha256: str) -> None:
    """Refuse an id whose present picture, at `path`, is another one."""
    if not path.is_file() or sha256_of(path) != sha256:
        again = command("semcore", "index", "remove", "--run", run.path, "--ids", image_id)
        raise UserError(
            f"{run.path} has another image with the id {image_id}; give the new one another, or remove the old one "
            f"with `{again}`"
        )
