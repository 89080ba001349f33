r"""Words of a text that can be keywords, in any script: the vectorizer that KeyBERT and TF-IDF share.

In scripts with spaces a word is a run of letters, digits, underscores and the marks that belong to them, of two
characters or more; a single Korean syllable counts. Scripts without spaces are segmented by a function that the user
names, or without a dictionary by `segment`.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from semcore.runtime.errors import UserError

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import CountVectorizer

Segment = Callable[[str], Iterable[str]]
"""Segments a run of letters of scripts without spaces, possibly with digits and other letters in it, into words."""

_ASCII_WORD = re.compile(r"\w\w+")
_VARIATION = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # choose between glyphs of one character
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KATAKANA = "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_HIRAGANA = "\u3041-\u309f"
# Thai, Lao, Myanmar, Khmer, Tai Le, New Tai Lue, Khmer symbols, Tai Tham, Javanese, Myanmar's extensions, Tai Viet.
_SYLLABIC = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\ua980-\ua9ff\uaa60-\uaadf"
_ALL_UNSPACED = _HAN + _KATAKANA + _HIRAGANA + _SYLLABIC
_UNSPACED = re.compile(f"[{_ALL_UNSPACED}]")
_ALONE = re.compile(f"[\uac00-\ud7a3{_HAN}]")  # a syllable of Korean, a character of Chinese is often a word
# A number with its measure word is one word ("12号"); the others are runs of one script.
_RUNS = re.compile(
    f"(?P<counted>\\d+[{_HAN}])|(?P<han>[{_HAN}]+)|(?P<katakana>[{_KATAKANA}]+)|(?P<hiragana>[{_HIRAGANA}]+)"
    f"|(?P<syllabic>[{_SYLLABIC}]+)|(?P<other>[^{_ALL_UNSPACED}]+?(?=\\d+[{_HAN}]|[{_ALL_UNSPACED}]|$))"
)
# Boundaries between Chinese words: an indefinite number with its measure word, and function words.
_HAN_TIES = re.compile(
    "[一二三四五六七八九十百两兩几幾每这那這]+"
    "[只個个位名条條张張把辆輛架座件头頭匹群双雙杯盘盤块塊片朵棵根支本台间間排堆些种種枚隻]"
    "|[的了着著在是和与與及或被从從向于於之其很也都就吗呢吧啊并而]"
)
_HAN_PLACE = re.compile("(?<=..)[上里中下]")  # behind a word of two characters: on, in, among, under it
# Japanese: particles, and endings of verbs; what is written in hiragana alone has no other sign of where words end.
_PARTICLE = re.compile("^[はがをにでとのもへや]")
_ENDING = re.compile(
    "(?:ている|ていた|ています|でいる|でいた|でいます|ました|ます|でした|です|だった|である|された|される|して|した|する"
    "|から|まで|など|ながら|いる|いた|ある|あった|その|この|あの|こと|もの|[はがをにでとのもへや])+$"
)


def word_vectorizer(
    *, ngram_range: tuple[int, int] = (1, 1), stop_words: str | None = "english", segmenter: Segment | None = None
) -> CountVectorizer:
    """Return a vectorizer that counts the n-grams of texts: lower case, words by `split_words`.

    Args:
        ngram_range: fewest and most words per keyword.
        stop_words: "english", or None to keep all words.
        segmenter: for scripts without spaces; `segment` by default.
    """
    from sklearn.feature_extraction.text import CountVectorizer  # a second, which a search does without

    return CountVectorizer(
        lowercase=True,
        tokenizer=partial(split_words, segmenter=segmenter or segment),
        token_pattern=None,
        ngram_range=ngram_range,
        stop_words=stop_words,
        dtype=np.int32,
    )


def load_segmenter(name: str) -> Segment:
    """Return the function that a user names as MODULE:FUNCTION, "jieba:lcut" say.

    Raises:
        UserError: there is no such module or function.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function) if module and function else None
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"--segmenter {name} cannot be loaded: {error}; install it, or leave it out") from None
    if not callable(found):
        raise UserError(f"--segmenter takes MODULE:FUNCTION such as jieba:lcut, found {name!r}")
    return found


def split_words(text: str, segmenter: Segment | None = None) -> list[str]:
    """Return the words of a text, in order.

    >>> split_words("a dog's frisbee")
    ['dog', 'frisbee']
    >>> split_words("हिन्दी में एक कुत्ता")
    ['हिन्दी', 'में', 'एक', 'कुत्ता']
    """
    if text.isascii():
        return _ASCII_WORD.findall(text)
    text = _VARIATION.sub("", unicodedata.normalize("NFC", text))
    words: list[str] = []
    for run in _word().findall(text):
        if _UNSPACED.search(run):
            words += filter(_is_word, (segmenter or segment)(run))
        elif _is_word(run):
            words.append(run)
    return words


def segment(run: str) -> list[str]:
    """Segment a run of scripts without spaces, without a dictionary.

    Chinese characters and the syllables of Thai, Lao, Khmer, Myanmar and the like are taken in overlapping pairs, as
    search engines index them, between function words; a single Chinese character between two function words is a word.
    A run of katakana is a word; particles and endings in hiragana are dropped.

    >>> segment("棕色的狗在草地上")
    ['棕色', '狗', '草地']
    >>> segment("犬がフリスビーを追いかけている")
    ['犬', 'フリスビー', '追']
    """
    words: list[str] = []
    before = ""
    for match in _RUNS.finditer(run):
        kind, piece = str(match.lastgroup), match[0]
        if kind == "han":
            parts = (part for between in _HAN_TIES.split(piece) for part in _HAN_PLACE.split(between))
            words += (pair for part in parts for pair in _pairs(list(part)))
        elif kind == "syllabic":
            words += _pairs(_syllable().findall(piece))
        elif kind == "hiragana":
            words += _hiragana_words(piece, after_han=before in ("han", "counted"))
        else:
            words.append(piece)
        before = kind
    return words


def _is_word(word: str) -> bool:
    return len(word) > 1 or _ALONE.fullmatch(word) is not None


def _pairs(parts: list[str]) -> list[str]:
    return parts if len(parts) < 2 else [first + second for first, second in pairwise(parts)]


def _hiragana_words(piece: str, *, after_han: bool) -> list[str]:
    """Return the words of a run of hiragana; right after a Chinese character it starts with that word's ending."""
    if after_han and not _PARTICLE.match(piece):
        return []
    stems = (_ENDING.sub("", _PARTICLE.sub("", part) if len(part) > 2 else part) for part in piece.split("を"))
    return [stem for stem in stems if len(stem) > 1]


@cache
def _marks() -> str:
    """Return the combining marks (Mn, Mc) as the inside of a character class; computed on first use, in 30 ms."""
    marks = (chr(code) for code in range(0x20000) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    return re.escape("".join(marks))


@cache
def _word() -> re.Pattern[str]:
    """Return the pattern of a word: a letter or digit, then letters, digits, marks, and joiners between them."""
    more = f"[\\w{_marks()}]"
    return re.compile(f"\\w{more}*(?:[\u200c\u200d]+{more}+)*")


@cache
def _syllable() -> re.Pattern[str]:
    """Return the pattern of a syllable: letter, marks, vowels before or after it, stacked and silent consonants."""
    marks = _marks()
    return re.compile(
        f"[\u0e40-\u0e44\u0ec0-\u0ec4]?[^{marks}](?:[{marks}]|(?<=[\u17d2\u1039])[^{marks}])*"
        f"(?:[\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3][{marks}]*)*"
        f"(?:[\u0e01-\u0e2e][{marks}]?\u0e4c|[\u1000-\u1021]\u1037?\u103a[{marks}]*)*"
    )
