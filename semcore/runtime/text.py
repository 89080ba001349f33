r"""Normalisation of all text that is stored, compared or shown to a model.

Search queries, captions (written here, by a server or by hand), sentences, prompts and identifiers go through
`clean_text`, so that texts that look alike are equal: composed letters (NFC), single spaces, no invisible characters.
"""

from __future__ import annotations

import re
import unicodedata

REPLACEMENT = "\ufffd"

HALVES = re.compile("[\ud800-\udfff]")
"""Lone surrogates: JSON's escapes and command lines can hold them, no UTF-8 file and no tokenizer can."""

# Control characters; those that `str.split` takes for white space stay until then.
_CONTROL = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
# Bidirectional controls: with them, text is displayed in another order than it is stored (Unicode's UTR 36).
_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# Zero width: word joiner, soft hyphen, byte order mark, invisible operators, annotations, tags, non-characters.
_NO_WIDTH = "\u00ad\u180e\u2060-\u2065\u206a-\u206f\ufdd0-\ufdef\ufeff\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e007f"
# Letters whose shape a joiner changes (Arabic to Myanmar, Khmer, Mongolian and their extensions), and pictograms.
_JOINED = "\u0600-\u109f\u1780-\u18af\u1a20-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefc\U00010a00-\U00011fff"
_PICTOGRAM = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
# Thai, Lao, Myanmar, Khmer: a zero width space stands between words, as a space does elsewhere.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
UNSEEN = re.compile(
    f"[{_CONTROL}{_DIRECTION}{_NO_WIDTH}]"
    f"|(?<![{_UNSPACED}])\u200b|\u200b(?![{_UNSPACED}])"
    f"|(?<![{_JOINED}])\u200c|\u200c(?![{_JOINED}])"
    f"|(?<![{_JOINED}{_PICTOGRAM}])\u200d"
)
"""Invisible characters that change how text is compared, read or tokenized; joiners inside words are not among them."""

_SUSPECT = re.compile(f"[{_CONTROL}{_DIRECTION}{_NO_WIDTH}\u200b-\u200d]")
_BLANK = re.compile("[\u115f\u1160\u2800\u3164\uffa0]")  # letters and patterns without ink
_ASCII_UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f]")


def clean_text(text: str) -> str:
    r"""Return normalised text: letters composed (NFC), single spaces, no invisible characters, valid UTF-8.

    The function is idempotent. Joiners inside words of scripts that need them stay, and so does the zero width space
    between words of Thai, Lao, Khmer and Myanmar.

    >>> clean_text("  a\x00 red\u202e cafe\u0301\n \ud83d")
    'a red café �'
    """
    if text.isascii():
        return " ".join(_ASCII_UNSEEN.sub("", text).split())
    text = _seen(_BLANK.sub(" ", whole_characters(text)))
    while True:  # a removal or composition may bring two characters together that compose in turn
        cleaned = " ".join(_seen(unicodedata.normalize("NFC", text)).split())
        if cleaned == text:
            return text
        text = cleaned


def _seen(text: str) -> str:
    """Remove invisible characters; texts without a suspect, nearly all, are only scanned."""
    return UNSEEN.sub("", text) if _SUSPECT.search(text) else text


def whole_characters(text: str) -> str:
    r"""Join surrogate pairs, and replace lone surrogates; all else stays as it is.

    >>> whole_characters("\ud83d\ude00 \ud83d")
    '😀 �'
    """
    if text.isascii() or not HALVES.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
