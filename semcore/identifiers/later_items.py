"""Identifiers of items that come later, by the scheme of the run: nothing is learnt of them.

An item gets the identifier that it would have had among the items of val or test; where a scheme tells items apart, as
the last of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semcore.identifiers.scheme import IdentifyLater
from semcore.identifiers.schemes import SCHEMES
from semcore.runtime.errors import UserError


def open_later(folder: Path, settings: Mapping[str, Any]) -> IdentifyLater:
    """Read what a run's identifiers were fitted to, and return the function that makes those of later items.

    Args:
        folder: RUN/identifiers.
        settings: of the stage `identifiers`, as the manifest has them.

    Raises:
        UserError: a file is missing or broken, or the scheme has no identifiers for later items.
    """
    name = settings.get("scheme")
    scheme = SCHEMES.get(str(name))
    if scheme is None or isinstance(scheme.later, str):
        why = "there is no such scheme" if scheme is None else scheme.later
        *able, last = [other for other, own in SCHEMES.items() if not isinstance(own.later, str)]
        raise UserError(
            f"the identifiers of {folder.parent} are of the scheme {name!r}, which has none for items that come later: "
            f"{why}; put the items into the dataset and make the identifiers again (those of the schemes "
            f"{', '.join(able)} and {last} are made for later items, too)"
        )
    return scheme.later(folder, settings)
