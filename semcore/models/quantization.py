"""NF4 quantisation of the text model by bitsandbytes, for the base of a QLoRA adapter.

Source: QLoRA (Dettmers et al., 2023), sections 3 and 4: 4-bit NormalFloat, double quantisation of the
constants, computation in bfloat16. Vision tower, projector, embeddings and output head, and with them
the embeddings of cluster tokens, keep their precision.
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
    """Return the argument of `from_pretrained` that quantises a text model's linear layers to four bits.

    Args:
        dtype: precision in which the weights are read, dequantised and multiplied.

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
    """Dequantise a model from `nf4_config` in place, to the values its weights were rounded to, and return it."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # silences a warning about a precision that is intended
    model = model.dequantize()
    transformers_logging.set_verbosity(level)
    model.is_loaded_in_4bit = False
    return model


def check_bitsandbytes(what: str) -> None:
    """Check that bitsandbytes is installed.

    Args:
        what: what needs it, for the message.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise UserError(f"{what} needs the library bitsandbytes; get it with: pip install 'semcore[qlora]'")
