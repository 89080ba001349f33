"""Options that name verifiers' checkpoints, one for each verifier that a run does not train."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from semcore.models.verifier_registry import VERIFIERS, model_setting

_TEXTS = {
    "captioner": "The model of the {name} verifier; by default the one that wrote the captions.",
    "named": "The {what} checkpoint of the {name} verifier: a folder or a hub id.",
}
_DEFAULTS = {model_setting(name): entry for name, entry in VERIFIERS.items() if entry.model in _TEXTS}

if TYPE_CHECKING:

    @dataclasses.dataclass(kw_only=True)
    class VerifierModelSettings:
        """The checkpoints' options; which ones there are, the registry says."""

else:
    VerifierModelSettings = dataclasses.make_dataclass(
        "VerifierModelSettings",
        [(setting, str | None, None) for setting in _DEFAULTS],
        kw_only=True,
        namespace={"__module__": __name__},
    )
    VerifierModelSettings.__doc__ = "Checkpoints of verifiers that a run has not trained.\n\nArgs:\n" + "".join(
        f"    {setting}: {_TEXTS[entry.model].format(name=setting.removesuffix('_model'), what=entry.what)}\n"
        for setting, entry in _DEFAULTS.items()
    )


def named_models(settings: Any) -> dict[str, str]:
    """Return verifier -> the checkpoint that the settings name for it, where they name one."""
    named = {name: getattr(settings, model_setting(name), None) for name in VERIFIERS}
    return {name: model for name, model in named.items() if model}
