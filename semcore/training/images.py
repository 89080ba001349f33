"""The images of the training split, ready to be trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from semcore.checkpoint import Checkpoint
from semcore.dataset import Dataset
from semcore.processes import is_main_process
from semcore.training.engine import computing_dtype, own_device
from semcore.training.visuals import Visuals, load_visuals


def load_training_images(
    checkpoint: Checkpoint,
    dataset: Dataset,
    folder: Path | None,
    say: Callable[[str], None],
    *,
    freeze_vision: bool,
    freeze_projector: bool,
    bf16: str,
) -> Visuals:
    """Return the images of the training split, and say how many cannot be read; other arguments as `load_visuals`.

    Such an image teaches nothing: it was readable when it was captioned, or it would have no identifier.

    Args:
        checkpoint: before LoRA is put on.
        dataset: whose training split it is.
        folder: RUN/features, or None.
        say: takes a sentence for the user.
        freeze_vision: the vision tower is not trained.
        freeze_projector: nor is the projector.
        bf16: "yes", "no" or "auto".

    Raises:
        UserError: an image has gone, or none can be read.
    """
    paths = {record.image_id: dataset.image_path(record) for record in dataset.split("train")}
    visuals = load_visuals(
        checkpoint, paths, folder, freeze_vision=freeze_vision, freeze_projector=freeze_projector,
        dtype=computing_dtype(bf16), device=own_device(), progress=is_main_process(),
    )  # fmt: skip
    for image_id, reason in visuals.unreadable.items():
        say(
            f"{len(visuals.unreadable)} of {len(paths)} training images cannot be read now and are left out, the first "
            f"is {paths[image_id]} ({reason}); look at all of them with python -m data_prep.check {dataset.folder}"
        )
        break
    return visuals
