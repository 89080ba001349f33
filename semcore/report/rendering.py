"""Templates of the reports: sandboxed, strict about names, and with all text escaped by default.

In an HTML template every value is escaped by Jinja's autoescape; in a markdown template every value is escaped by
`escape_markdown` unless a filter made it `Markdown`.
"""

import re
from pathlib import Path
from urllib.parse import quote

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"

# Control characters, lone surrogates, and bidirectional controls.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")
# Every character that can open markup inside a line, by CommonMark and GitHub's tables, links and formulas.
_INLINE = re.compile(r"[\\`*_\[\]<>|~#&$!^{}]")
# Autolinks, "https://..." and "www. ..." without the space.
_AUTOLINK = re.compile(r"(?=://)|(?<=www)(?=\.)", re.IGNORECASE)
# Starts of a list or a rule.
_LINE_START = re.compile(r"^(\d*)([-+=.)])(?=[-+=\s]|$)")


class Markdown(str):
    """Text that is markdown already and is not escaped again."""


def one_line(text: str) -> str:
    r"""Remove invisible characters, and join the rest on one line.

    >>> one_line("two\n\n lines\x00")
    'two lines'
    """
    return " ".join(_UNSEEN.sub(" ", text).split())


def escape_markdown(text: str) -> Markdown:
    r"""Escape untrusted text so that markdown shows it literally, on one line.

    >>> print(escape_markdown("a | b <script> *c*"))
    a \| b \<script\> \*c\*
    """
    line = _INLINE.sub(r"\\\g<0>", one_line(text))
    line = _LINE_START.sub(r"\1\\\2", line)
    return Markdown(_AUTOLINK.sub(r"\\", line))


def markdown_template(name: str) -> jinja2.Template:
    """Load a markdown template of the package; an undefined name in it is an error."""
    environment = _environment(autoescape=False, finalize=_finalize_markdown)
    environment.filters.update(url=_url, fenced=_fenced, number=_number, marked=Markdown)
    return environment.get_template(name)


def html_template(name: str) -> jinja2.Template:
    """Load an HTML template of the package; values are escaped and an undefined name is an error."""
    return _environment(autoescape=True, finalize=_finalize_html).get_template(name)


def duration(seconds: float) -> str:
    """Format seconds.

    >>> duration(4.26), duration(75), duration(7325)
    ('4.3 s', '1 min 15 s', '2 h 2 min')
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    return f"{minutes} min {round(seconds) % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def memory(num_bytes: int) -> str:
    """Format bytes.

    >>> memory(1_610_612_736)
    '1.5 GiB'
    """
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"


def score(value: float, column: str) -> str:
    """Format a score by its column: recalls in percent with one decimal, MRR between 0 and 1 with three."""
    return f"{value:.3f}" if column.startswith("MRR") else f"{value:.1f}"


def percent(share: float) -> str:
    """Format a percentage, without the sign.

    >>> percent(62.5)
    '62.5'
    """
    return f"{share:.1f}"


def _environment(**options: object) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters.update(duration=duration, memory=memory, score=score, percent=percent)
    return environment


def _url(path: str) -> Markdown:
    return Markdown(quote(path))


def _fenced(code: str) -> Markdown:
    """Return code in a block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}\n{code.strip()}\n{fence}")


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finalize_markdown(value: object) -> Markdown:
    return value if isinstance(value, Markdown) else escape_markdown(str(value))


def _finalize_html(value: object) -> object:
    """Join text on one line; autoescape does the rest. A macro's result is `Markup` and keeps its lines."""
    return value if isinstance(value, Markup | jinja2.Undefined) else one_line(str(value))
