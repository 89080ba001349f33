"""Cleaning of sentences on import: minimal, and every change is counted."""

from __future__ import annotations

import re

from semcore.runtime.text import HALVES, REPLACEMENT, UNSEEN, clean_text, whole_characters

MAX_LETTERS = 2_000  # ours: five times the longest caption of Flickr30K; more than any encoder or prompt makes use of
# The marks of chat templates, of images and of sequences: <|im_end|>, <img>, </img>, <IMG_CONTEXT>, <image>, </s>.
_SPECIAL = re.compile(r"<\|[^|<>\s]+\|>|</?(?:img|image|IMG_CONTEXT|s|box|ref|quad|pad|bos|eos|unk)>")

WORDS = {
    "cut": f"sentences cut to {MAX_LETTERS:,} characters",
    "no_text": "sentences with characters that are no text, replaced",
    "control": "sentences with characters that are not seen (control, direction, zero width), left out of them",
    "special": "sentences with a model's special tokens in them, kept as they are: prompts break them up",
}


def clean_sentence(text: str) -> tuple[str, list[str]]:
    r"""Return a sentence as it is stored, and the kinds of changes or remarks (keys of `WORDS`).

    The cleaning is that of all text (`semcore.runtime.text`). An empty sentence stays empty; importers leave it out.

    >>> clean_sentence("  a dog\n on grass ")
    ('a dog on grass', [])
    >>> clean_sentence("a \ud800 dog <|im_end|>")
    ('a � dog <|im_end|>', ['no_text', 'special'])
    """
    whole = whole_characters(text)
    found = ["no_text"] if whole.count(REPLACEMENT) > text.count(REPLACEMENT) else []
    text = clean_text(text)
    if text != " ".join(whole.split()) and UNSEEN.search(whole):
        found.append("control")
    if len(text) > MAX_LETTERS:
        text = text[: MAX_LETTERS + 1].rsplit(" ", 1)[0][:MAX_LETTERS]
        found.append("cut")
    if _SPECIAL.search(text):
        found.append("special")
    return text, found


def printable(text: str) -> str:
    """Replace characters that UTF-8 cannot encode; file names may hold them too."""
    return HALVES.sub(REPLACEMENT, text)
