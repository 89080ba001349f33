r"""Text from anyone as it is kept, compared and shown to a model: one function for every gate.

Search queries, captions (written here, by a server or by hand), sentences, prompts and identifiers go through
`clean_text`, so that what looks alike is alike: composed letters (NFC), single spaces, and nothing that is not seen.
"""

from __future__ import annotations

import re
import unicodedata

REPLACEMENT = "\ufffd"

HALVES = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs: JSON's escapes and command lines can hold them, no UTF-8 file and no tokenizer can."""

# Control characters; those that `str.split` takes for white space stay until then.
_CONTROL = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
# Marks that turn the direction of writing: what is read is then not what stands there (Unicode's UTR 36).
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
"""What is never seen and changes how text is compared, read or tokenized; joiners inside words are none of it."""

_SUSPECT = re.compile(f"[{_CONTROL}{_DIRECTION}{_NO_WIDTH}\u200b-\u200d]")
_BLANK = re.compile("[\u115f\u1160\u2800\u3164\uffa0]")  # letters and patterns without ink
_ASCII_UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f]")


def clean_text(text: str) -> str:
    r"""Return text as it is kept: letters composed (NFC), single spaces, nothing that is not seen, valid UTF-8.

    It is the same however often it is called. Joiners inside words of scripts that need them stay, and so does the
    zero width space between words of Thai, Lao, Khmer and Myanmar.

    >>> clean_text("  a\x00 red\u202e cafe\u0301\n \ud83d")
    'a red café �'
    """
    if text.isascii():
        return " ".join(_ASCII_UNSEEN.sub("", text).split())
    text = _seen(_BLANK.sub(" ", whole_characters(text)))
    while True:  # what was taken out, or composed, may have parted two characters that now meet
        cleaned = " ".join(_seen(unicodedata.normalize("NFC", text)).split())
        if cleaned == text:
            return text
        text = cleaned


def _seen(text: str) -> str:
    """Leave out what is not seen; texts without a suspect, nearly all, are only looked through."""
    return UNSEEN.sub("", text) if _SUSPECT.search(text) else text


def whole_characters(text: str) -> str:
    r"""Join the halves of surrogate pairs, and replace a half that stands alone; all else stays as it is.

    >>> whole_characters("\ud83d\ude00 \ud83d")
    '😀 �'
    """
    if text.isascii() or not HALVES.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
