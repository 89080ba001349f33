"""JSON of files that others wrote: what Python's parser answers with an error of its own is not valid JSON either.

Python's parser ends with `RecursionError` on deep lists, and refuses numbers of more digits than it converts with a
plain `ValueError`. Here both are a `JSONDecodeError`, and values are no deeper than `MAX_DEPTH`, so that whatever goes
through them later does not end so either.
"""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 100
"""Lists and objects within each other; no file of ours has ten."""

DECODER = json.JSONDecoder()
TOO_DEEP, TOO_LONG = f"more than {MAX_DEPTH} lists within each other", "a number of too many digits"


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        json.JSONDecodeError: it is none, is nested too deeply, or has a number that is too long.
    """
    value, end = decode(text, len(text) - len(text.lstrip(" \t\n\r")))
    if rest := text[end:].strip(" \t\n\r"):
        raise json.JSONDecodeError("Extra data", text, text.index(rest, end))
    return value


def decode(text: str, start: int) -> tuple[Any, int]:
    """Return the value that starts at a place of a text, and the place behind it; errors as `parse_json`."""
    try:
        value, end = DECODER.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError(TOO_DEEP, text, start) from None
    except ValueError:
        raise json.JSONDecodeError(TOO_LONG, text, start) from None
    brackets = text.count("[", start, end) + text.count("{", start, end)
    if brackets > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise json.JSONDecodeError(TOO_DEEP, text, start)
    return value, end


def _is_deeper(value: Any, most: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    return most == 0 or any(_is_deeper(own, most - 1) for own in (value.values() if isinstance(value, dict) else value))
