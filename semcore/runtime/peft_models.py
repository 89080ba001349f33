"""Models under a peft adapter, told from plain ones without an import of peft.

peft imports bitsandbytes and the compiler of torch, a second and more of every start. A model can only be one of peft's
where somebody has imported it before.
"""

from __future__ import annotations

import sys
from typing import Any


def is_peft_model(model: Any) -> bool:
    """Tell whether a model is wrapped into an adapter."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def without_adapter(model: Any) -> Any:
    """Return the model that an adapter wraps, or the model itself."""
    return model.get_base_model() if is_peft_model(model) else model
