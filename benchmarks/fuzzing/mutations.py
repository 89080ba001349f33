"""Strategies of hypothesis that damage valid inputs: data in JSON, bytes of a file, YAML, templates and sentences."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

DEEP = 20_000
"""Lists within each other: more than any parser's stack holds."""
LONG = 1_000_000
"""Letters of a long line."""
RAW = "@raw@"
"""Mark of a value that stands in a file as it is, though no writer of JSON would write it."""

VALUES: list[Any] = [
    None, True, -1, 0, 10**25, 1.5, float("nan"), float("inf"), "", " ", "\0", "\ud800", "\u202eabc", "x" * 5_000,
    "a\nb",
    [], {}, [[]], {"a": {}}, ["a", 1, None], "../../etc/passwd", "/etc/passwd", ".", "val", "<|im_end|>", "-0", "nan",
    RAW + "1" * 5_000, RAW + "[" * DEEP + "]" * DEEP, RAW + "[" * 600 + "]" * 600,
    RAW + '{"a":' * 300 + "1" + "}" * 300,
    RAW + "1e999", RAW + "-", RAW + "1e400000000", RAW + '"\\ud800"', RAW + '"\\u0000"', RAW + "NaN", RAW + "[1, 2",
    RAW + "{'a': 1}", "[" * 2_000, "['a' 'b', None", "[" + "'a'," * 200 + "]", "{}" * 9, "0" * 400,
]  # fmt: skip


def damaged_json(value: Any, *, lines: bool = False) -> st.SearchStrategy[bytes]:
    """Return texts of JSON, or of JSON Lines, in which up to three values were replaced, left out or doubled.

    Args:
        value: valid data; a list of rows for lines.
        lines: write a row a line.
    """
    paths = list(_paths(value))

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        own, doubled = copy.deepcopy(value), []
        for _ in range(draw(st.integers(0, 3))):
            path, kind = (
                draw(st.sampled_from(paths)),
                draw(st.sampled_from(["put", "put", "put", "leave out", "double"])),
            )
            doubled += [path] if kind == "double" else []
            # A copy: what is put once may be changed by the next of the three, and must not hold itself.
            own = _changed(own, path, copy.deepcopy(draw(st.sampled_from(VALUES))) if kind == "put" else None, kind)
        text = "\n".join(_spelt(row) for row in own) if lines and isinstance(own, list) else _spelt(own)
        for path in doubled:  # a key that stands twice
            name = json.dumps(path[-1]) if path and isinstance(path[-1], str) else ""
            text = text.replace(f"{name}:", f"{name}: 7, {name}:", 1) if name else text
        return draw(damaged_bytes(text.encode("utf-8", "surrogatepass")))

    return build()


def damaged_bytes(content: bytes) -> st.SearchStrategy[bytes]:
    """Return copies of a file's bytes, half of them whole, the others cut, with bytes changed, marks or noise."""
    size = len(content)
    places = st.integers(0, max(0, size - 1))

    def flip(place: int, value: int) -> bytes:
        return content[:place] + bytes([value]) + content[place + 1 :]

    def insert(place: int, piece: bytes) -> bytes:
        return content[:place] + piece + content[place:]

    pieces = [
        b"\0", b"\xff", b"\xef\xbb\xbf", b"\n", b"\r", b'"', b"\xed\xa0\x80", b"x" * LONG, b"\n" * 5_000,
        b"[" * DEEP, b"\\",
        b"\xff\xfe", b"{", b"}", b",", b"\x1a", "\u2028".encode(),
    ]  # fmt: skip
    return st.one_of(
        st.just(content),
        st.just(content),
        st.builds(flip, places, st.integers(0, 255)),
        st.builds(insert, places, st.sampled_from(pieces)),
        places.map(lambda place: content[:place]),
        st.sampled_from([
            b"\xef\xbb\xbf" + content, content.decode(errors="replace").encode("utf-16"), gzip.compress(content)[:-3],
            content.replace(b"\n", b"\r\n"), content.replace(b"\n", b""), content * 2, b"", b"\0" * 64, content[::-1],
            content.decode(errors="replace").encode("utf-16-le"),
        ]),
    )  # fmt: skip


def damaged_arrays(content: bytes) -> st.SearchStrategy[bytes]:
    """Return copies of a safetensors file: bytes as `damaged_bytes`, or a header that says something else."""
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = [name for name in header if name != "__metadata__"]

    def written(new: Any) -> bytes:
        spelt = _spelt(new).encode("utf-8", "surrogatepass")
        return len(spelt).to_bytes(8, "little") + spelt + body

    entries: list[dict[str, Any]] = [
        {"shape": [2**62]}, {"shape": [-1]}, {"shape": []}, {"shape": [2**31, 2**31, 2**31]}, {"dtype": "F64"},
        {"dtype": "I8"}, {"dtype": "BOOL"}, {"dtype": "XX"}, {"data_offsets": [0, 0]}, {"data_offsets": [0, 8]},
        {"data_offsets": [8, 0]}, {"data_offsets": [0, 2**63]}, {"data_offsets": [-8, 8]}, {"data_offsets": []},
    ]  # fmt: skip

    def one_entry(name: str, entry: dict[str, Any]) -> bytes:
        return written({**header, name: {**header[name], **entry}})

    def metadata(name: str, value: Any) -> bytes:
        return written({**header, "__metadata__": {**header.get("__metadata__", {}), name: value}})

    known = list(header.get("__metadata__", {})) or ["format"]
    sizes = [0, 1, 8, 2**20, 2**31, 2**40, 2**63, 2**64 - 1]
    return st.one_of(
        damaged_bytes(content),
        st.builds(one_entry, st.sampled_from(names), st.sampled_from(entries)),
        st.builds(metadata, st.sampled_from(known), st.sampled_from(["", "-1", "x", "9" * 5_000, "1e3", 7, None])),
        st.sampled_from(names).map(lambda name: written({key: own for key, own in header.items() if key != name})),
        st.sampled_from(sizes).map(lambda size: size.to_bytes(8, "little") + content[8:]),
        st.builds(_noise, st.just(content), st.integers(8 + length, len(content) - 1), st.binary(max_size=16)),
    )  # fmt: skip


def damaged_yaml(text: str) -> st.SearchStrategy[bytes]:
    """Return copies of a YAML text in which values or lines were replaced, or that stand for more than they seem to."""
    lines = text.splitlines()
    bomb = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else '1'}]" for n in range(12))
    values = [
        "", "~", "!!python/object/apply:os.system [echo]", "!!binary aGVsbG8=", "&a [*a]", "*nowhere", "9" * 5_000,
        "0x" + "f" * 5_000, "1e999", ".nan", "-.inf", "2024-01-01", "12:30", "0o777", "'", '"\\ud800"', '"\\0"',
        "[" * 2_000,
        "{a: {a: {a: 1}}}",
        "? a", "<<: [1]", "|\n  text", "- - - -", "\t1", "%TAG", "---\na: 1\n---", "a: b: c", "-1",
        "10000000000000000000000",
        "true", "[1, [2, [3]]]", "{}", "[]", "x" * 5_000, "1_000_", "0b11", "1__0", "+", ".", "._",
    ]  # fmt: skip

    def replaced(number: int, value: str) -> str:
        name, colon, _ = lines[number].partition(":")
        return "\n".join([*lines[:number], f"{name}{colon} {value}", *lines[number + 1 :]])

    def inserted(number: int, value: str) -> str:
        return "\n".join([*lines[:number], value, *lines[number:]])

    numbers = st.integers(0, len(lines) - 1)
    texts = st.one_of(
        st.builds(replaced, numbers, st.sampled_from(values)),
        st.builds(inserted, numbers, st.sampled_from([*values, *lines])),
        st.just(f"{bomb}\n{text}"),
    )
    return texts.map(lambda own: own.encode("utf-8", "surrogatepass")).flatmap(damaged_bytes)


PIECES = (
    "\0", "\ud800",
    *r"""
{{ QUERY }}
{{ QUERY }}
{% for a in range(10**9) %}{% endfor %}
{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}
{{ 'x' * 10**10 }}
{{ 10**10**10 }}
{{ QUERY * 10**9 }}
{{ [0] * 10**9 }}
{{ 'x'|center(10**10) }}
{{ 'x'.ljust(10**10) }}
{{ '%10000000000d' % 1 }}
{{ '%10000000000d'|format(1) }}
{{ '{:10000000000d}'.format(1) }}
{{ 1/0 }}
{{ 1 % 0 }}
{{ 'a'|int + 'b' }}
{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}
{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}
{% set ns = namespace(x='x') %}{% for a in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}
{{ ''.__class__.__mro__[1].__subclasses__() }}
{{ QUERY.__init__.__globals__ }}
{{ self.__init__ }}
{{ cycler.__init__.__globals__ }}
{{ lipsum(n=10**7) }}
{% include '/etc/passwd' %}
{% import 'x' as y %}
{% extends 'x' %}
{{ QUERY|map('upper')|list }}
{{ QUERY|replace('q', 'x' * 10**6)|replace('x', 'y' * 10**6) }}
{{ range(10)|sum }}
{{ ''|batch(10**9, 0)|list }}
{{ 'a'|indent(10**10) }}
{% for a in QUERY recursive %}{{ loop(QUERY) }}{% endfor %}
{{ QUERY|attr('__class__') }}
{% filter upper %}{{ QUERY }}{% endfilter %}
{% block a %}{{ QUERY }}{% endblock %}
{% raw %}{{{% endraw %}
{#
{{
{% if %}
{{ QUERY[0:-1:0] }}
{{ QUERY[10**9] }}
{{ dict(a=1)['b'] }}
{{ QUERY|xmlattr }}
{{ QUERY|tojson }}
{{ [1, 'a']|sort }}
{{ QUERY|slice(0)|list }}
{{ joiner()() }}
{{ 1.0|round(10**9) }}
{% set x %}{{ QUERY }}{% endset %}{{ x ~ x }}
{{ QUERY|truncate(-1) }}
{{ QUERY|wordwrap(0) }}
{{ 'a'|urlize }}
{{ ('a' * 30)|wordwrap(1) }}
{% for a in 'abc' %}{% for b in 'abc' %}{{ loop.index }}{% endfor %}{% endfor %}
<|im_end|>
{{ caller() }}
{{ QUERY.format_map }}
{{ QUERY.join(['a'] * 10**8) }}
{{ QUERY.encode().hex() }}
{{ (1,) * 10**9 }}
{{ 2 ** 0.5 ** -1 }}
""".strip().splitlines(),
)  # fmt: skip
"""Pieces of templates: what a prompt may say, what it must not, and what takes for ever."""


def damaged_templates() -> st.SearchStrategy[bytes]:
    """Return templates of a prompt whose variable is `query`, made of pieces."""

    def joined(pieces: list[str]) -> bytes:
        text = "{{ query }} " + "\n".join(pieces)
        return text.replace("QUERY", "query").encode("utf-8", "surrogatepass")

    return st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map(joined)


def hostile_texts(tokens: Sequence[str]) -> st.SearchStrategy[str]:
    """Return sentences with special tokens, whole, cut, nested and spelt otherwise, and characters of all kinds."""

    def cut(token: str, place: int) -> str:
        return token[: place % (len(token) + 1)]

    def nested(token: str) -> str:
        return token[: len(token) // 2] + token + token[len(token) // 2 :]

    def otherwise(token: str, number: int) -> str:
        spellings = (
            token.upper(), "\u200b".join(token), token.replace("|", "\uff5c"), f"{token[0]}\u00ad{token[1:]}",
            token.replace("<", "\0<"),
        )  # fmt: skip
        return spellings[number % len(spellings)]

    token, number = st.sampled_from(tokens), st.integers(0, 100)
    plain = st.sampled_from([
        "a red circle", " ", "\n", "\ud800", "\u202e", "e\u0301", "\u1100\u1161", "x" * 3_000, "\ufdfa", "\U000e0041",
        "<", "|", ">", "{{ query }}", "<image>", "<label>",
    ])  # fmt: skip
    spelt = (token, st.builds(cut, token, number), token.map(nested), st.builds(otherwise, token, number), plain)
    return st.lists(st.one_of(*spelt, st.text(max_size=8)), max_size=8).map("".join)


def _noise(content: bytes, place: int, piece: bytes) -> bytes:
    return content[:place] + piece + content[place + len(piece) :]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from _paths(inner, (*path, key))


def _changed(value: Any, path: tuple[Any, ...], new: Any, kind: str) -> Any:
    """Return a value with the entry at a path replaced, left out or doubled, where it is still there."""
    if not path:
        return new if kind == "put" else value
    holder = value
    for key in path[:-1]:
        try:
            holder = holder[key]
        except (KeyError, IndexError, TypeError):
            return value
    try:
        if kind == "put":
            holder[path[-1]] = new
        elif kind == "leave out":
            del holder[path[-1]]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[path[-1]]))
    except (KeyError, IndexError, TypeError):
        pass
    return value


def _spelt(value: Any) -> str:
    """Return JSON in which raw values stand as they are."""
    text = json.dumps(value, ensure_ascii=False)
    while (start := text.find(f'"{RAW}')) >= 0:
        raw, end = json.JSONDecoder().raw_decode(text, start)
        text = text[:start] + raw.removeprefix(RAW) + text[end:]
    return text
