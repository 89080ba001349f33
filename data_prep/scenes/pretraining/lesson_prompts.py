"""Prompts of the pretraining's own lessons, beside those that the product's models read."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from semcore.models.prompts import IMAGE, Prompts, load_prompts

FOLDER = Path(__file__).parent / "prompts"
VARIABLES: dict[str, dict[str, Any]] = {
    "read_sentence": {"query": "query"},
    "imagine": {"query": "query"},
    "keywords_t2i": {"query": "query"},
    "keywords_i2t": {"image": IMAGE},
    "locate": {"image": IMAGE, "query": "query"},
}
TAUGHT = (
    "caption", "identify_i2t", "identify_t2i", "imagine", "keywords_i2t", "keywords_t2i", "locate", "read_sentence",
    "sentence_alone", "sentence_of_image", "verify_i2t", "verify_pointwise_i2t", "verify_pointwise_t2i", "verify_t2i",
)  # fmt: skip
"""In the order in which the checkpoint's tokenizer has seen them; a further one would make another tokenizer."""


def load_lesson_prompts(folder: Path, special_tokens: Collection[str]) -> Prompts:
    """Read the product's prompts in a folder and those of the lessons; errors as `load_prompts`."""
    return load_prompts(folder, special_tokens) | load_prompts(FOLDER, special_tokens, VARIABLES)


def taught_prompts(folder: Path) -> list[str]:
    """Return the text of every prompt that the checkpoint is taught; `folder` holds the product's."""
    files = ((FOLDER if name in VARIABLES else folder) / f"{name}.jinja" for name in TAUGHT)
    return [file.read_text(encoding="utf-8") for file in files]
