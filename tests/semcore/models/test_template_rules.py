"""Rules of prompt templates: all that prompts need, and nothing that takes longer than it is long."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from semcore.models.template_rules import fault_of

PROMPTS = Path(__file__).resolve().parents[3] / "prompts"


def fault(source: str) -> tuple[int, str] | None:
    return fault_of(ImmutableSandboxedEnvironment().parse(source))


@pytest.mark.parametrize("path", sorted(PROMPTS.glob("*.jinja")), ids=lambda path: path.stem)
def test_our_prompts_are_allowed(path: Path) -> None:
    assert fault(path.read_text()) is None


@pytest.mark.parametrize(
    "source",
    [
        "{% for c in candidates if c.label %}{{ loop.index + 1 }}. {{ c.sentence | trim | default('-') }}{% endfor %}",
        "{% if candidates | length > 4 and not query %}many{% elif image is defined %}one{% else %}none{% endif %}",
        "{% set first = candidates[0] %}{{ first.label ~ ': ' ~ first['keywords'] }} {{ candidates[1:] | last }}",
        "{# a remark #}{% raw %}{{ so }}{% endraw %}{{ 'a' if query else 'b' }}{{ -1 }}",
    ],
)
def test_what_prompts_need_is_allowed(source: str) -> None:
    assert fault(source) is None


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ query }}\n{% for n in range(10**9) %}{% endfor %}", (2, "call")),
        ("{{ query * 10**9 }}", (1, "*")),
        ("{{ 10 ** 10 ** 10 }}", (1, "**")),
        ("{{ '%1000000000d' % 1 }}", (1, "%")),
        ("{{ query | center(10) }}", (1, "filter 'center'")),
        ("{{ query | replace('a', 'aa') }}", (1, "filter 'replace'")),
        ("{% macro f() %}{{ f() }}{% endmacro %}", (1, "macro")),
        ("{% include '/etc/passwd' %}", (1, "include")),
        ("{% set x %}{{ query }}{% endset %}", (1, "set block")),
        ("{% for a in query %}{% for b in query %}{{ b }}{% endfor %}{% endfor %}", (1, "loop within a loop")),
        ("{% set x = query ~ query %}", (1, "~ or + in what is set or looped over")),
        ("{% for x in [query + query] %}{{ x }}{% endfor %}", (1, "~ or + in what is set or looped over")),
        ("{{ query.upper() }}", (1, "call")),
    ],
)
def test_what_may_take_for_ever_is_named_with_its_line(source: str, expected: tuple[int, str]) -> None:
    assert fault(source) == expected


def test_deep_expressions_are_looked_through_without_recursion() -> None:
    assert fault("{{ " + "not " * 300 + "query }}") is None
