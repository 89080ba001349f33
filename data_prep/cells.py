"""Sentences in one value of a data set: a text, a list of texts, or a list written as a text."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping
from typing import Any

from semcore.runtime.json_values import parse_json

KEYS = ("raw", "text", "caption", "sentence", "raws", "captions", "sentences")  # of objects that hold a sentence
NULL_WORDS = ("nan", "null", "none", "<na>")  # as tables spell a missing cell
_BESIDES = (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.COMMENT)


def is_null(value: object) -> bool:
    """Tell whether a value stands for a missing one: None, or the number that is not equal to itself."""
    return value is None or (isinstance(value, float) and value != value)


def sentences_in(value: Any) -> list[Any]:
    """Return the sentences of a value; entries that are no text stay what they are.

    >>> sentences_in('["a dog", "a cat"]'), sentences_in("['a dog' 'a cat']"), sentences_in("[a dog]")
    (['a dog', 'a cat'], ['a dog', 'a cat'], ['[a dog]'])
    >>> sentences_in({"raw": ["a dog", None]}), sentences_in(b"a dog"), sentences_in([{"raw": "a dog"}, 3])
    (['a dog', None], ['a dog'], ['a dog', 3])
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8-sig", errors="replace")
    if isinstance(value, str):
        return _in_text(value)
    if isinstance(value, Mapping):
        held = [value[key] for key in KEYS if key in value]
        return sentences_in(held[0]) if held else [dict(value)]
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [text for entry in value for text in sentences_in(entry)]
    return [value]


def sentences_in_cell(cell: str) -> list[Any]:
    """Return the sentences of a cell of a table, where a word may stand for a missing one."""
    texts = sentences_in(cell) or [None]
    return [None if isinstance(text, str) and text.strip().lower() in NULL_WORDS else text for text in texts]


def _in_text(text: str) -> list[Any]:
    stripped = text.strip()
    if stripped[:1] + stripped[-1:] not in ("[]", "{}"):
        return [text]
    try:
        value = parse_json(stripped)
    except ValueError:
        value = _python_list(stripped)
    if isinstance(value, list) and all(entry is None or isinstance(entry, str | list | Mapping) for entry in value):
        return [found for entry in value for found in ([entry] if isinstance(entry, str) else sentences_in(entry))]
    if isinstance(value, Mapping) and any(key in value for key in KEYS):
        return sentences_in(value)
    return [text]


def _python_list(text: str) -> list[Any] | None:
    """Read a list of texts as Python and numpy print it; numpy leaves the commas out, so no parser is asked."""
    entries: list[Any] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.STRING:
                entries.append(ast.literal_eval(token.string))
            elif token.string in ("None", "nan"):
                entries.append(None)
            elif token.string not in tuple("[],") and token.type not in _BESIDES:
                return None
    except (tokenize.TokenError, SyntaxError, ValueError):
        return None
    return entries
