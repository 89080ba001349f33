"""Everything that an identifier model is taught: pairs of both directions, further queries, extra modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.identifier_files import IdentifierRow
from semcore.data.run_folder import RunFolder
from semcore.models.checkpoint import Checkpoint
from semcore.models.layer_fusion import LAYER_FUSION, find_layer_fusion, new_layer_fusion
from semcore.models.prompts import load_prompts
from semcore.models.set_head import (
    SET_HEAD,
    Pool,
    find_set_head,
    new_set_head,
    set_vocabulary,
    unit_numbers,
)
from semcore.runtime.long_lists import joined
from semcore.training.further_queries import Further, caption_examples, with_own_images
from semcore.training.held_out import HeldOut
from semcore.training.identifier_pairs import Example, identifier_examples
from semcore.training.image_inputs import Visuals
from semcore.training.null_queries import null_examples
from semcore.training.schedule import PlannedRows, plan_identifier_rows


@dataclass(frozen=True)
class Lesson:
    """The examples of a training.

    Attributes:
        t2i: sentences, and captions that ask like them.
        i2t: images, each with all that it asks for.
        null: pairs without their query.
    """

    t2i: Sequence[Example]
    i2t: Sequence[Sequence[Example]]
    null: Sequence[Example]

    @property
    def words(self) -> str:
        """Return how many pairs there are, in words."""
        return f"{len(self.t2i)} pairs t2i, {sum(map(len, self.i2t))} pairs i2t"

    def plan(self, image_start_id: int, row_tokens: int, **schedule: Any) -> PlannedRows:
        """Return the rows of all steps.

        Args:
            image_start_id: the token before each image's tokens.
            row_tokens: tokens of a row, at most.
            schedule: the other arguments of `plan_identifier_rows`.
        """
        return plan_identifier_rows(
            joined(self.t2i, self.null), self.i2t, image_start_id=image_start_id, max_tokens=row_tokens, **schedule
        )


def make_lesson(
    checkpoint: Checkpoint,
    run: RunFolder,
    dataset: Dataset,
    identifiers: Mapping[Direction, Sequence[IdentifierRow]],
    held_out: HeldOut,
    visuals: Visuals,
    *,
    captions: Further,
    images: Further,
    null_queries: float,
    seed: int,
) -> Lesson:
    """Return the examples of a training.

    Args:
        checkpoint: gives the tokenizer, and the set head where there is one.
        run: holds the captions.
        dataset: holds images and sentences.
        identifiers: direction that is trained -> its rows.
        held_out: queries that are left out.
        visuals: the source of the images.
        captions: whose captions ask, too.
        images: which images ask for their own identifier.
        null_queries: fraction of the pairs that are learnt without their query, too.
        seed: of the draw of those.

    Raises:
        UserError: there is nothing to train on, or no caption.
    """
    tokenizer, prompts = checkpoint.tokenizer, load_prompts(special_tokens=checkpoint.special_tokens)
    head, of_images = find_set_head(checkpoint.model), identifiers.get(Direction.T2I, ())
    units = unit_numbers([row for rows in identifiers.values() for row in rows], head.units) if head else {}
    t2i, i2t = identifier_examples(
        tokenizer, prompts, dataset.split("train"), identifiers, held_out, visuals, units
    )  # fmt: skip
    t2i = joined(t2i, caption_examples(tokenizer, prompts, run, dataset, of_images, captions, units))
    null = null_examples(tokenizer, prompts, t2i, i2t, null_queries, seed)
    i2t = with_own_images(i2t, tokenizer, prompts, dataset, of_images, images, visuals, units)
    return Lesson(t2i, i2t, null)


def add_extras(
    checkpoint: Checkpoint,
    identifiers: Mapping[Direction, Sequence[IdentifierRow]],
    *,
    has_set_head: bool,
    pool: Pool,
    num_fused: int,
    seed: int,
) -> list[str]:
    """Attach the extra modules that are trained to a model, and return their names.

    A checkpoint's own are trained on: its fusion always, its set head where it has the same units.

    Args:
        checkpoint: with the identifiers' tokens.
        identifiers: direction that is trained -> its rows, whose units the set head weighs.
        has_set_head: train one.
        pool: see `semcore.models.set_head.SetHead`.
        num_fused: layers of a fusion, 0 for none.
        seed: of the fusion's weights.
    """
    model: Any = checkpoint.model
    if has_set_head:
        units, own = set_vocabulary(row for rows in identifiers.values() for row in rows), find_set_head(model)
        if own is None or (own.units, own.pool) != (units, pool):
            new_set_head(model, checkpoint.tokenizer, units, pool)
    if num_fused and find_layer_fusion(model) is None:
        new_layer_fusion(model, num_fused, seed)
    fused = find_layer_fusion(model) is not None
    return [name for name, trained in ((SET_HEAD, has_set_head), (LAYER_FUSION, fused)) if trained]
