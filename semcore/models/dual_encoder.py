"""Dual encoders, CLIP and SigLIP: sentences and pictures as vectors of one space.

Shapes: N texts or pictures, d dimensions; all vectors have length 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semcore.models.checkpoint import load_image_processor, load_tokenizer
from semcore.models.inference import check_device, default_device
from semcore.runtime.errors import UserError

DUAL_ENCODERS = dict.fromkeys(("clip", "siglip", "siglip2"), "AutoModel")
"""`model_type` -> its class in transformers."""
BATCH = 64
BASELINES = "--baselines takes sentence-encoder and"

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class DualEncoder:
    """A loaded checkpoint.

    Attributes:
        name: its folder or hub id.
        model: with both towers, in evaluation mode.
        tokenizer: pads on the right, since these text towers count positions from the start.
        image_processor: makes pixel values of pictures.
    """

    name: str
    model: Any
    tokenizer: Any
    image_processor: Any

    @property
    def scale(self) -> float:
        """Return what cosines are multiplied with in its training."""
        return float(self.model.logit_scale.detach().exp())

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of texts (N, d); what is longer than the text tower's positions is cut off."""
        longest = self.model.config.text_config.max_position_embeddings
        padding = True if self.model.config.model_type == "clip" else "max_length"  # SigLIP has learnt full lengths

        def encode(batch: Sequence[str]) -> torch.Tensor:
            inputs = self.tokenizer(
                list(batch), padding=padding, truncation=True, max_length=longest, return_tensors="pt"
            )
            found: torch.Tensor = self.model.get_text_features(**inputs.to(self.model.device)).pooler_output
            return found

        return in_batches(encode, texts)

    def pictures(self, pictures: Sequence[Any], opened: Callable[[Any], Any] = lambda picture: picture) -> Vectors:
        """Return the vectors of pictures (N, d).

        Args:
            pictures: images, or what `opened` makes images of, a batch at a time.
            opened: returns the image of each.
        """

        def encode(batch: Sequence[Any]) -> torch.Tensor:
            inputs = self.image_processor(images=[opened(picture) for picture in batch], return_tensors="pt")
            found: torch.Tensor = self.model.get_image_features(**inputs.to(self.model.device)).pooler_output
            return found

        return in_batches(encode, pictures)


def load_dual_encoder(name: str, device: str | None = None, use: str = BASELINES) -> DualEncoder:
    """Load a CLIP or SigLIP checkpoint, in float32.

    Args:
        name: a folder or a hub id.
        device: the fastest one by default.
        use: the beginning of the sentence that refuses another checkpoint.

    Raises:
        UserError: it cannot be loaded, or is neither of them.
    """
    device = device or default_device()
    check_device(device)
    tokenizer = load_tokenizer(name)
    tokenizer.padding_side = "right"
    model = load_whole(name, DUAL_ENCODERS, f"{use} CLIP or SigLIP checkpoints")
    return DualEncoder(name, model.to(device), tokenizer, load_image_processor(name))


def load_whole(name: str, kinds: Mapping[str, str], wanted: str, parts: Mapping[str, str] | None = None) -> Any:
    """Load a model of one of some kinds, all of its weights, in float32 and evaluation mode.

    Args:
        name: a folder or a hub id.
        kinds: values of `model_type` that will do -> the class in transformers that loads such a one.
        wanted: the beginning of the sentence that refuses another checkpoint.
        parts: modules that checkpoints of these kinds may lack as a whole -> what they are, for that sentence.

    Raises:
        UserError: it cannot be loaded, is of another kind, or lacks weights.
    """
    import transformers

    try:
        kind = transformers.AutoConfig.from_pretrained(name).model_type
        if kind not in kinds:
            raise UserError(f"{wanted}; {name} is a {kind}")
        loader = getattr(transformers, kinds[kind])
        model, loading = loader.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the checkpoint {name} cannot be loaded: {reason}") from error
    for part, what in (parts or {}).items():
        if any(key.startswith(f"{part}.") for key in loading["missing_keys"]):
            raise UserError(f"{wanted}; {name} has no {what}")
    if loading["missing_keys"]:
        raise UserError(f"{name} is not a whole checkpoint: {len(loading['missing_keys'])} weights are missing")
    return model.eval()


@torch.inference_mode()
def in_batches(encode: Callable[[Sequence[Any]], torch.Tensor], given: Sequence[Any]) -> Vectors:
    """Encode texts or pictures batch by batch, and make the vectors (N, d) as long as 1."""
    batches = [encode(given[start : start + BATCH]).float().cpu().numpy() for start in range(0, len(given), BATCH)]
    return normalised(np.concatenate(batches)) if batches else np.zeros((0, 0), dtype=np.float32)


def normalised(vectors: NDArray[Any]) -> Vectors:
    """Return vectors (N, d) with length 1; zeros stay zeros."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors / lengths, dtype=np.float32)
