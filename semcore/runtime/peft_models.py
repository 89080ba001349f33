"""Detection of models with a peft adapter, without importing peft.

peft imports bitsandbytes and torch's compiler, which takes more than a second. A model can only be peft's if peft has
been imported before.
"""

from __future__ import annotations

import sys
from typing import Any


def is_peft_model(model: Any) -> bool:
    """Return whether a model is wrapped in an adapter."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def without_adapter(model: Any) -> Any:
    """Return the model that an adapter wraps, or the model itself."""
    return model.get_base_model() if is_peft_model(model) else model
