"""The images of a training, ready to be trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from semcore.data.dataset import Dataset
from semcore.models.checkpoint import Checkpoint
from semcore.runtime.ranks import is_main_process
from semcore.runtime.typed_commands import data_command
from semcore.training.image_inputs import StoredFeatures, Visuals, load_visuals
from semcore.training.launcher import computing_dtype, own_device


def load_training_images(
    checkpoint: Checkpoint,
    dataset: Dataset,
    folder: Path | None,
    say: Callable[[str], None],
    *,
    freeze_vision: bool,
    freeze_projector: bool,
    bf16: str,
    needed: bool = True,
    splits: Sequence[str] = ("train",),
) -> Visuals:
    """Return the images that are trained on, and say how many cannot be read; other arguments as `load_visuals`.

    Unreadable images are skipped; they were readable when captioned, or they would have no identifier.

    Args:
        checkpoint: before LoRA is put on.
        dataset: whose images they are.
        folder: RUN/features, or None.
        say: prints a sentence for the user.
        freeze_vision: the vision tower is not trained.
        freeze_projector: nor is the projector.
        bf16: "yes", "no" or "auto".
        needed: whether any image is shown; if not, none is read.
        splits: whose images are wanted.

    Raises:
        UserError: an image is missing, or none can be read.
    """
    if not needed:
        return StoredFeatures({})
    say("the training images")
    records = {record.image_id: record for split in splits for record in dataset.split(split)}
    paths = {image_id: dataset.image_path(record) for image_id, record in records.items()}
    visuals = load_visuals(
        checkpoint, paths, folder, freeze_vision=freeze_vision, freeze_projector=freeze_projector,
        dtype=computing_dtype(bf16), device=own_device(), progress=is_main_process(),
    )  # fmt: skip
    if lost := dict(visuals.unreadable):
        first, reason = next(iter(lost.items()))
        num_sentences = sum(len(records[image_id].sentences) for image_id in lost)
        say(
            f"{len(lost)} of {len(paths)} training images cannot be read now and are left out, with the pairs of their "
            f"{num_sentences} sentences; the first is {paths[first]} ({reason}); see all of them with "
            f"`{data_command('check', dataset.folder)}`"
        )
    return visuals
