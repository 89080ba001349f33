"""Changes of a served run's corpus: items that come and go while it is searched, and stay so after a restart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from semcore.data.new_images import NewImage
from semcore.models.session import ModelSession
from semcore.retrieval.corpus_updates import Addition, add_images, remove_items
from semcore.retrieval.item_maker import ItemMaker
from semcore.serving.problems import refusal_of_change
from semcore.serving.served_run import RunOptions, without_folder

T = TypeVar("T")


@dataclass
class CorpusKeeper:
    """Adds items to a run and removes them; one thread at a time may ask it.

    The captioner, the sentence encoder and, where none is given, the generator are loaded at the first addition.

    Attributes:
        options: which run.
        generator: a session of the generator that is loaded already.
    """

    options: RunOptions
    generator: ModelSession | None = None
    _maker: ItemMaker | None = field(default=None, repr=False)

    def add(self, images: Sequence[NewImage]) -> Addition:
        """Add images with their sentences, all at once; those that are there already are left as they are.

        Raises:
            Refusal: an id is another image's, the disk is full, the run cannot take any, or another process changes it.
        """
        return self._change(lambda maker: add_images(maker, images))

    def remove(self, item_ids: Sequence[str]) -> int:
        """Remove images with their sentences, and sentences, all at once; return the changes of the corpus so far.

        Raises:
            Refusal: a direction would have no items left, the disk is full, or another process changes the corpus.
        """
        return self._change(lambda maker: remove_items(maker, item_ids))

    def _change(self, change: Callable[[ItemMaker], T]) -> T:
        try:
            return change(self._open())
        except Exception as error:
            raise refusal_of_change(error, lambda sentence: without_folder(sentence, self.options.run)) from error

    def _open(self) -> ItemMaker:
        if self._maker is None:
            own = self.options
            self._maker = ItemMaker.open(
                own.run,
                data=own.data,
                dtype=own.dtype,
                device=own.device,
                base=own.base,
                allow_mismatch=own.allow_mismatch,
                generator=self.generator,
            )
        return self._maker
