"""How a listwise verifier reads its candidates: recorded with its checkpoint, and followed wherever it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from semcore.errors import UserError
from semcore.files import read_json

Attention = Literal["full", "blocks"]
ATTENTION = "attention.json"


def attention_record(attention: Attention) -> dict[str, str]:
    """Return what attention.json holds."""
    return {"attention": attention}


def read_attention(folder: str | Path) -> Attention:
    """Return the attention that a checkpoint was trained with; "full" where it does not say.

    Raises:
        UserError: it says something else.
    """
    path = Path(folder) / ATTENTION
    if not path.is_file():
        return "full"
    content = read_json(path)
    found = content.get("attention") if isinstance(content, dict) else None
    for known in get_args(Attention):
        if found == known:
            return known
    raise UserError(
        f"{path} says that the attention is {found!r}, known are {' and '.join(get_args(Attention))}; "
        "train the verifier anew, or update semcore"
    )
