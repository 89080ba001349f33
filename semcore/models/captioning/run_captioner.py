"""Captioner of a run: the model that wrote its captions, with the settings that it wrote them with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semcore.data.run_folder import RunFolder
from semcore.models.captioning.local import Caption, caption_images
from semcore.models.checkpoint import Checkpoint
from semcore.models.inference import load_for_inference
from semcore.models.prompts import Prompts, load_prompts
from semcore.models.run_checkpoints import captioner_of, recorded_captioner
from semcore.models.visual_features import FeatureStore
from semcore.runtime.errors import UserError


@dataclass(frozen=True)
class RunCaptioner:
    """The loaded captioner of a run; its feature store is the run's.

    Attributes:
        checkpoint: the model.
        prompts: holds the prompt "caption".
        features: RUN/features.
        batch_size: images captioned at once.
        max_new_tokens: a longer caption is cut off.
        num_beams: 1 is greedy decoding.
    """

    checkpoint: Checkpoint
    prompts: Prompts
    features: Path
    batch_size: int
    max_new_tokens: int
    num_beams: int

    def caption(self, pictures: Mapping[str, Path], *, progress: bool = False) -> list[Caption]:
        """Caption pictures, and store their visual features.

        Args:
            pictures: image id -> file.
            progress: show a progress bar over the images that are encoded.

        Returns:
            One outcome per image, in their order.
        """
        store, ids = FeatureStore(self.checkpoint, pictures, self.features), list(pictures)
        store.add(ids, progress=progress)
        captions: list[Caption] = []
        for first in range(0, len(ids), self.batch_size):
            captions += self._batch(ids[first : first + self.batch_size], store)
        return captions

    def _batch(self, ids: Sequence[str], store: FeatureStore) -> list[Caption]:
        return caption_images(
            self.checkpoint, self.prompts, ids, store,
            max_new_tokens=self.max_new_tokens, num_beams=self.num_beams,
        )  # fmt: skip


def load_run_captioner(run: RunFolder, *, device: str | None = None, moved: str | Path | None = None) -> RunCaptioner:
    """Load the model that wrote a run's captions.

    Args:
        run: the run folder.
        device: its device; the fastest one by default.
        moved: the present path of the captioner, or of an adapter's base, if it has moved.

    Raises:
        UserError: the captions came from elsewhere, or from a server, or the model is not found.
    """
    if recorded_captioner(run) is None:
        raise UserError(
            f"the captions of {run.path} were not written by a model that runs here, so that there is none to write "
            "those of new images: give each of them with its caption"
        )
    place = captioner_of(run, moved=moved)
    settings = run.manifest()["stages"]["caption"]["settings"]
    checkpoint = load_for_inference(place, dtype=settings.get("dtype", "auto"), device=device, base=moved)
    return RunCaptioner(
        checkpoint,
        load_prompts(special_tokens=checkpoint.special_tokens),
        run / "features",
        settings.get("batch_size", 64),
        settings.get("max_new_tokens", 128),
        settings.get("num_beams", 1),
    )
