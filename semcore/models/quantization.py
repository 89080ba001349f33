"""Weights of the text model in four bits (nf4), by bitsandbytes: the base under a QLoRA adapter.

Source: QLoRA (Dettmers et al., 2023), sections 3 and 4: 4-bit NormalFloat, the quantisation constants
quantised once more, computing in bfloat16. Vision tower, projector, embeddings and the output head,
and with them the clusters' new rows, keep their precision.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from semcore.runtime.errors import UserError

if TYPE_CHECKING:
    import torch

Quantization = Literal["none", "nf4"]
KEPT = ("model.vision_tower", "model.multi_modal_projector", "lm_head")


def nf4_config(dtype: torch.dtype) -> Any:
    """Return what `from_pretrained` takes to pack a text model's linear layers into four bits.

    Args:
        dtype: precision the weights are read in, unpacked to and multiplied in.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    check_bitsandbytes("a base in nf4")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(KEPT),
    )


def unpacked(model: Any) -> Any:
    """Return a model from `nf4_config`, which is changed, with plain weights of the values they were rounded to."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it warns of the precision, which is the one it was read in
    model = model.dequantize()
    transformers_logging.set_verbosity(level)
    model.is_loaded_in_4bit = False
    return model


def check_bitsandbytes(what: str) -> None:
    """Check that bitsandbytes is installed.

    Args:
        what: needs it.

    Raises:
        UserError: it is not.
    """
    if find_spec("bitsandbytes") is None:
        raise UserError(f"{what} needs the library bitsandbytes; get it with: pip install 'semcore[qlora]'")
