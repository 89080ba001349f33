"""What a model's folder says of empty queries: prompts without a query, that it was trained on too.

They teach it how probable identifiers are whatever is asked, so that one pass over them tells their prior.
"""

from __future__ import annotations

from pathlib import Path

from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json

EMPTY_QUERIES = "empty_queries.json"


def empty_queries_record(fraction: float) -> dict[str, float]:
    """Return what is written beside a model: how many pairs were trained on without their query too."""
    return {"fraction": fraction}


def knows_empty_queries(folder: str | Path) -> bool:
    """Tell whether a model was trained on empty queries; not where it does not say.

    Raises:
        UserError: its record is broken.
    """
    path = Path(folder) / EMPTY_QUERIES
    if not path.is_file():
        return False
    fraction = read_json(path).get("fraction")
    if not isinstance(fraction, int | float):
        raise UserError(f"{path} has no fraction of empty queries; train the model anew")
    return fraction > 0
