"""Checks of what a study's YAML file says, each with one sentence that names the place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semcore.runtime.config_file import suggestion
from semcore.runtime.errors import UserError


def mapping(content: Any, where: str) -> Mapping[str, Any]:
    """Return a mapping.

    Raises:
        UserError: it is none.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{where} needs lines such as 'key: value', found {content!r}")
    return content


def listed(content: Any, where: str) -> Sequence[Any]:
    """Return a list.

    Raises:
        UserError: it is none.
    """
    if not isinstance(content, list):
        raise UserError(f"{where} needs a list such as '[a, b]', or lines that begin with '- ', found {content!r}")
    return content


def number(value: Any, where: str, *, whole: bool = False) -> float:
    """Return a number, or a whole one from 0 on.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or (whole and value < 0):
        raise UserError(f"{where} takes a {'whole number from 0 on' if whole else 'number'}, found {value!r}")
    return value


def refuse_unknown(content: Mapping[str, Any], known: Any, where: str) -> None:
    """Check the keys of a mapping.

    Raises:
        UserError: one is not known; names the nearest that is.
    """
    for key in content:
        if key not in known:
            raise UserError(f"unknown key {key!r} in {where}{suggestion(str(key), sorted(known))}")


def one_of(value: Any, known: Sequence[str], where: str) -> str:
    """Return one of the known words.

    Raises:
        UserError: it is none of them; names the nearest.
    """
    if value not in known:
        raise UserError(f"{where} names {value!r}{suggestion(str(value), known)}")
    return str(value)
