"""The record of null queries in a model's folder: prompts without a sentence or an image that it was trained on too.

They teach it how probable identifiers are whatever is asked, so that one pass over them tells their prior.
"""

from __future__ import annotations

from pathlib import Path

from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json

NULL_QUERIES = "null_queries.json"


def null_queries_record(fraction: float) -> dict[str, float]:
    """Return what null_queries.json holds: what fraction of the pairs was learnt without the query too."""
    return {"fraction": fraction}


def knows_null_queries(folder: str | Path) -> bool:
    """Tell whether a model was trained on null queries; not where it does not say.

    Raises:
        UserError: its record is broken.
    """
    path = Path(folder) / NULL_QUERIES
    if not path.is_file():
        return False
    fraction = read_json(path).get("fraction")
    if not isinstance(fraction, int | float):
        raise UserError(f"{path} has no fraction of null queries; train the model anew")
    return fraction > 0
