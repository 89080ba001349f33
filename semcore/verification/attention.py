"""How a listwise verifier reads its candidates: recorded with its checkpoint, and followed wherever it is asked."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from semcore.runtime.config_file import read_yaml
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json

Attention = Literal["full", "blocks"]
ATTENTION = "attention.json"


def training_section(arguments: Sequence[str] | None = None) -> str:
    """Return the section of the --config file that the training of a verifier reads.

    A run's own config.yaml keeps the settings of a training in blocks apart from those of the other one; a file
    without such a section says the same for both.

    Args:
        arguments: of the command line, those of this process by default.
    """
    words = [part for word in (sys.argv[1:] if arguments is None else arguments) for part in word.split("=", 1)]
    given = dict(itertools.pairwise(words))
    if given.get("--attention") != "blocks" or "--config" not in given:
        return "train_verifier"
    try:
        sections = read_yaml(Path(given["--config"]))
    except UserError:  # said when the file is read for its settings
        sections = None
    return "train_verifier_blocks" if "train_verifier_blocks" in (sections or {}) else "train_verifier"


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
