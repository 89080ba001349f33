"""Typed values from YAML text, by the rules of YAML 1.2 and without constructing objects.

PyYAML only parses the tree. Scalars are resolved here: `no` is a word and `1e-3` a number (YAML 1.2), `12:30`, `010`
and `2024-01-01` are not converted. Where a setting takes text, its text is kept as typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

MAX_NODES = 100_000  # aliases of aliases stand for more than any memory holds
MAX_DEPTH = 50
MAX_LETTERS = 200_000  # some hundred times our longest file; PyYAML reads so many in a second
MAX_VALUE_LETTERS = 10_000_000  # of all values, with aliases
MAX_DIGITS = 1_000  # Python converts no number of more than some thousands, and shows none

_NULL = ("", "~", "null", "Null", "NULL")
_BOOL = {"true": True, "false": False}
_WISH = {**_BOOL, "yes": True, "no": False, "on": True, "off": False}
_INT = re.compile(r"[-+]?[0-9][0-9_]*")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?")
_RADIX = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"
_UNTAGGED = "untagged"


class _Loader(yaml.BaseLoader):
    """Loader of the tree that resolves no scalar."""

    DEFAULT_SCALAR_TAG = _UNTAGGED


class Plain(str):
    """A plain (unquoted) scalar, whose type depends on the setting."""


def parse_yaml(text: str) -> Any:
    """Return the values of a YAML text: mappings with text keys, lists, quoted text, and `Plain` words.

    Raises:
        yaml.YAMLError: it is no YAML, a key stands twice, or it holds more than plain values.
    """
    if len(text) > MAX_LETTERS:
        raise yaml.YAMLError(f"it has {len(text):,} letters, and settings take no more than {MAX_LETTERS:,}")
    try:
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else _Reader().value(node, 0)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


def meant(value: Any) -> Any:
    """Return values with every plain scalar resolved by YAML 1.2: null, true, false, a number or text."""
    if isinstance(value, dict):
        return {key: meant(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [meant(inner) for inner in value]
    return _scalar(value) if isinstance(value, Plain) else value


def as_type(value: Any, hint: Any) -> Any:
    """Convert a value to a setting's type; a value that does not fit stays, for the type's own check to refuse.

    Args:
        value: from `parse_yaml`.
        hint: the setting's type; text and paths keep their text, switches know yes, no, on and off.
    """
    choices = list(_choices(hint))
    if isinstance(value, list):
        inner = [get_args(choice) for choice in choices if get_origin(choice) in (list, tuple)]
        return [as_type(entry, _entry_hint(inner[0], place) if inner else Any) for place, entry in enumerate(value)]
    if isinstance(value, dict):
        inner = [get_args(choice) for choice in choices if get_origin(choice) in (dict, Mapping)]
        return {key: as_type(entry, inner[0][1] if inner else Any) for key, entry in value.items()}
    return _word_as(value, choices) if isinstance(value, Plain) else value


def _word_as(word: Plain, choices: list[Any]) -> Any:
    literals = [option for choice in choices if get_origin(choice) is Literal for option in get_args(choice)]
    if word in literals:
        return str(word)
    read = _scalar(word)
    kinds = [choice for choice in choices if isinstance(choice, type)]
    if isinstance(read, float) and int in kinds and float not in kinds and read.is_integer():
        return int(read)  # 1e3 steps
    if read is None or (not isinstance(read, str) and type(read) in (*kinds, *([int] if float in kinds else []))):
        return read
    if bool in kinds and word.lower() in _WISH:
        return _WISH[word.lower()]
    if any(choice is not NoneType and choice not in (int, float, bool) for choice in kinds):
        return str(word)  # text, a path
    return read


def _choices(hint: Any) -> Iterator[Any]:
    if get_origin(hint) in (Union, UnionType):
        for inner in get_args(hint):
            yield from _choices(inner)
    else:
        yield hint


def _entry_hint(inner: tuple[Any, ...], place: int) -> Any:
    """Return the type of a list's entry, or of one position of a tuple."""
    if not inner:
        return Any
    return inner[place] if place < len(inner) and inner[place] is not Ellipsis else inner[0]


def _scalar(word: str) -> Any:
    if word in _NULL:
        return None
    if word.lower() in _BOOL and word in (word.lower(), word.title(), word.upper()):
        return _BOOL[word.lower()]
    if _INT.fullmatch(word):
        return int(word.replace("_", "")) if len(word) <= MAX_DIGITS else str(word)
    if _RADIX.fullmatch(word):
        return int(word, 0) if len(word) <= MAX_DIGITS else str(word)
    if _FLOAT.fullmatch(word):
        return float(word.replace("_", ""))
    return float(word.replace(".", "", 1)) if _SPECIAL.fullmatch(word) else str(word)


class _Reader:
    """Visitor of the tree of a YAML text."""

    def __init__(self) -> None:
        self._num_nodes = self._num_letters = 0

    def value(self, node: yaml.Node, depth: int) -> Any:
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES or depth > MAX_DEPTH:
            raise _error("its aliases stand for too much", node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            _refuse_tag(node, "seq")
            return [self.value(inner, depth + 1) for inner in node.value]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        _refuse_tag(node, "map")
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _error("a key has to be a word", key_node)
            value = self.value(value_node, depth + 1)
            if key_node.value == "<<" and key_node.style is None:
                for mapping in value if isinstance(value, list) else [value]:
                    if not isinstance(mapping, dict):
                        raise _error("<< takes a mapping", value_node)
                    merged = {**mapping, **merged}
            elif key_node.value in own:
                raise _error(f"the key {key_node.value!r} stands twice; delete one of them", key_node)
            else:
                own[key_node.value] = value
        return {**merged, **own}

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        self._num_letters += len(node.value)
        if self._num_letters > MAX_VALUE_LETTERS:
            raise _error("its aliases stand for too much", node)
        _refuse_tag(node, "str", "int", "float", "bool", "null")
        if node.tag in ("!", f"{_TAG}str") or (node.tag == _UNTAGGED and node.style is not None):
            return str(node.value)
        return Plain(node.value)


def _refuse_tag(node: yaml.Node, *kinds: str) -> None:
    if node.tag not in ("!", _UNTAGGED, *(f"{_TAG}{kind}" for kind in kinds)):
        raise _error(f"the tag {node.tag} is not taken; write plain values", node)


def _error(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


class Dumper(yaml.SafeDumper):
    """Writer of YAML that versions 1.1 and 1.2 read alike: text that either would convert is quoted."""


Dumper.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+.0123456789"))
