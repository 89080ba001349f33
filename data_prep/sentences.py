"""What becomes of a sentence on its way into a dataset folder: little, and counted."""

from __future__ import annotations

import re

MAX_LETTERS = 2_000  # ours: five times the longest caption of Flickr30K; more than any encoder or prompt makes use of
# Halves of surrogate pairs are no text (no UTF-8 file can hold them); control characters are never seen.
_NO_TEXT = re.compile("[\ud800-\udfff]")
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f]")
# The marks of chat templates, of images and of sequences: <|im_end|>, <img>, </img>, <IMG_CONTEXT>, <image>, </s>.
_SPECIAL = re.compile(r"<\|[^|<>\s]+\|>|</?(?:img|image|IMG_CONTEXT|s|box|ref|quad|pad|bos|eos|unk)>")

WORDS = {
    "cut": f"sentences cut to {MAX_LETTERS:,} characters",
    "no_text": "sentences with characters that are no text, replaced",
    "control": "sentences with control characters, left out of them",
    "special": "sentences with a model's special tokens in them, kept as they are: prompts break them up",
}


def clean_sentence(text: str) -> tuple[str, list[str]]:
    r"""Return a sentence as it is stored, and what was found in it (keys of `WORDS`).

    White space becomes single spaces. An empty sentence stays one, and is left out by the importers.

    >>> clean_sentence("  a dog\n on grass ")
    ('a dog on grass', [])
    >>> clean_sentence("a \ud800 dog <|im_end|>")
    ('a � dog <|im_end|>', ['no_text', 'special'])
    """
    found = []
    if _NO_TEXT.search(text):
        text, found = printable(text), ["no_text"]
    if _UNSEEN.search(text):
        text = _UNSEEN.sub("", text)
        found.append("control")
    text = " ".join(text.split())
    if len(text) > MAX_LETTERS:
        text = text[: MAX_LETTERS + 1].rsplit(" ", 1)[0][:MAX_LETTERS]
        found.append("cut")
    if _SPECIAL.search(text):
        found.append("special")
    return text, found


def printable(text: str) -> str:
    """Replace what no UTF-8 file can hold; file names may hold it too."""
    return _NO_TEXT.sub("\ufffd", text)
