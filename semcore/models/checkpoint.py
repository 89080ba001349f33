"""Checkpoints: a model with its tokenizer and image processor, loaded from a full checkpoint or an adapter.

Weights are read from safetensors only, remote code runs only on request, and a download is announced.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, PretrainedConfig
from transformers.utils import logging as transformers_logging

from semcore.models.adapters import find_base, is_adapter, read_note
from semcore.models.compatibility import check_model, check_tokenizer
from semcore.models.extra_modules import load_extras
from semcore.models.quantization import Quantization, nf4_config, unpacked
from semcore.models.special_tokens import closing_token_id, filler_token_id
from semcore.runtime.errors import UserError
from semcore.runtime.moved_checkpoints import absolute_place, is_hub_id

logger = logging.getLogger(__name__)
transformers_logging.disable_progress_bar()

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model with its tokenizer and image processor.

    `path` is the folder or hub id it was loaded from, `quantization` that of its text model.
    """

    model: Any
    tokenizer: Any
    image_processor: Any
    path: str
    quantization: Quantization = "none"

    @property
    def end_token_id(self) -> int:
        """Id of the token that ends an answer, `<|im_end|>` in InternVL's chat template."""
        return closing_token_id(self.tokenizer)

    @property
    def end_token_ids(self) -> list[int]:
        """Ids of all tokens that end an answer: the one that closes a turn, and the tokenizer's end of text."""
        own = self.tokenizer.eos_token_id
        return [self.end_token_id] if own in (None, self.end_token_id) else [self.end_token_id, own]

    @property
    def filler_token_id(self) -> int:
        """Id of the padding token; masks hide it."""
        return filler_token_id(self.tokenizer)

    @property
    def special_tokens(self) -> list[str]:
        """Every string that the tokenizer always reads as one token."""
        return list(self.tokenizer.get_added_vocab())

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.model.device


def load_checkpoint(
    name_or_path: str | Path,
    *,
    dtype: str = "float32",
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
    quantization: Quantization = "none",
    device_map: str | None = None,
    base: str | Path | None = None,
) -> Checkpoint:
    """Load a checkpoint folder, a hub id, or a PEFT adapter folder, with its extra modules.

    For an adapter the base is loaded in the recorded dtype; for QLoRA it is quantised to NF4 and, unless "nf4" is
    requested, dequantised again, so that inference sees the weights that training saw.

    Args:
        name_or_path: a folder of a native InternVL checkpoint or of an adapter on one, or a hub id.
        dtype: "float32", "bfloat16", or "auto" for the precision the weights are stored in.
        device: the model's device.
        trust_remote_code: run Python code that comes with the checkpoint.
        quantization: "nf4" quantises the text model's layers to four bits.
        device_map: "auto" and the like, for the library to distribute the layers over devices, instead of `device`.
        base: the present path of an adapter's base, if it has moved.

    Raises:
        UserError: it is not a checkpoint that can be loaded; the sentence says why.
    """
    path, placed = str(name_or_path), device_map or ({"": device} if quantization != "none" else None)
    folder = Path(path) if is_adapter(Path(path)) else None
    whole = find_base(folder, base) if folder else path
    check_model(whole, _model_config(whole))
    tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
    if folder:
        model = _load_base(folder, whole, dtype, quantization, placed, trust_remote_code)
        model = _attach_adapter(model, path, whole, len(tokenizer))
    else:
        model = _load_model(path, dtype, quantization, placed, trust_remote_code)
    check_tokenizer(path, tokenizer, model.config.image_token_id)
    image_processor = load_image_processor(path, trust_remote_code=trust_remote_code)
    model = model if placed else model.to(device)
    load_extras(Path(path), model)
    return Checkpoint(model.eval(), tokenizer, image_processor, path, quantization)


def load_tokenizer(name_or_path: str | Path, *, trust_remote_code: bool = False) -> Any:
    """Load a checkpoint's tokenizer, padding on the left as generation needs it."""
    _announce_download(str(name_or_path))
    with _readable(str(name_or_path), "tokenizer"):
        return AutoTokenizer.from_pretrained(
            str(name_or_path), padding_side="left", trust_remote_code=trust_remote_code
        )


def load_image_processor(name_or_path: str | Path, *, trust_remote_code: bool = False) -> Any:
    """Load a checkpoint's image processor, in the form that needs no torchvision."""
    with _readable(str(name_or_path), "image processor"):
        return AutoImageProcessor.from_pretrained(str(name_or_path), backend="pil", trust_remote_code=trust_remote_code)


def _load_base(
    adapter: Path, base: str, dtype: str, quantization: Quantization, device_map: Any, trust_remote_code: bool
) -> Any:
    """Load an adapter's base as it was in training: same dtype and quantisation; dequantised unless "nf4" is asked."""
    note = read_note(adapter)
    if quantization not in ("none", note.quantization):
        raise UserError(f"{adapter} was not trained on a base in {quantization}; leave --lora.quantization none")
    model = _load_model(base, note.dtype or dtype, note.quantization, device_map, trust_remote_code)
    if note.quantization != quantization:
        model = unpacked(model)
    return model if quantization != "none" else model.to(DTYPES.get(dtype))


def _model_config(name_or_path: str) -> dict[str, Any]:
    _announce_download(name_or_path)
    with _readable(name_or_path, "configuration"):
        return PretrainedConfig.get_config_dict(name_or_path)[0]


def _load_model(
    name_or_path: str, dtype: str, quantization: Quantization, device_map: Any, trust_remote_code: bool
) -> Any:
    with _readable(name_or_path, "model"):
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            name_or_path,
            dtype=DTYPES.get(dtype, "auto"),
            quantization_config=None if quantization == "none" else nf4_config(DTYPES.get(dtype, torch.float32)),
            device_map=device_map,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    model, loading = loaded
    missing = sorted(loading["missing_keys"])
    if missing:
        raise UserError(
            f"{name_or_path} is not a whole checkpoint: {len(missing)} weights are missing, {missing[0]} the first; "
            "point to a folder saved by save_pretrained"
        )
    return model


def _attach_adapter(model: Any, path: str, base: str, vocabulary_size: int) -> Any:
    from peft import PeftModel

    if vocabulary_size > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(vocabulary_size, mean_resizing=False)
    with _readable(path, "adapter"):
        adapted = PeftModel.from_pretrained(model, path)
    adapted.peft_config["default"].base_model_name_or_path = absolute_place(base)  # the present path
    return adapted


def _announce_download(name_or_path: str) -> None:
    if Path(name_or_path).is_dir():
        return
    if not is_hub_id(name_or_path):
        raise UserError(f"there is no checkpoint folder {name_or_path}; give a folder or a hub id like OpenGVLab/NAME")
    logger.warning("%s is not a folder here: it is taken from the Hugging Face hub", name_or_path)


class _readable:
    """Context that turns the libraries' errors on a bad folder into one sentence."""

    def __init__(self, name_or_path: str, part: str):
        self.name_or_path, self.part = name_or_path, part

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError | ValueError | KeyError | RuntimeError) and not isinstance(error, UserError):
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"cannot load the {self.part} of {self.name_or_path}: {reason}") from error
        if error is not None and type(error).__name__ == "SafetensorError":
            raise UserError(
                f"cannot load the {self.part} of {self.name_or_path}: a weight file is damaged ({error})"
            ) from error
