"""Prompts: Jinja templates rendered to the text of a user's turn, with a placeholder for every image.

Templates may be edited by anyone, so they are run in a sandbox, a misspelt variable is an error, and
a file that lacks a variable of its stage is refused when it is loaded. Text from users, captions or
sentences is inserted as data: special tokens in it are escaped.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from semcore.models.template_rules import fault_of
from semcore.runtime.errors import UserError
from semcore.runtime.packaged_files import packaged_folder, resource_folder
from semcore.runtime.text import clean_text, whole_characters
from semcore.runtime.text_files import read_text


class ImageSlot(str):
    """Placeholder of an image in a prompt; `semcore.models.tokenization` inserts the image's tokens there."""


class LabelSlot(str):
    """Placeholder of a candidate's letter; `semcore.verification.block_layout` cuts a prompt there."""


IMAGE = ImageSlot("<image>")
LABEL = LabelSlot("<label>")

# The variables that each template must use. A list represents the candidates of a verification; it has
# two entries, so that a template which shows only the first of them is noticed.
_CANDIDATE_IMAGES = [{"label": "label", "image": IMAGE, "keywords": "keywords"}] * 2
_CANDIDATE_SENTENCES = [{"label": "label", "sentence": "sentence", "keywords": "keywords"}] * 2
_ONE_IMAGE = {"image": IMAGE, "keywords": "keywords"}
_ONE_SENTENCE = {"sentence": "sentence", "keywords": "keywords"}
_ANSWERS = {"match": "A", "mismatch": "B"}
VARIABLES: dict[str, dict[str, Any]] = {
    "caption": {"image": IMAGE},
    "identify_t2i": {"query": "query"},
    "identify_i2t": {"image": IMAGE},
    "identify_own": {"image": IMAGE},
    "verify_t2i": {"candidates": _CANDIDATE_IMAGES, "query": "query"},
    "verify_i2t": {"candidates": _CANDIDATE_SENTENCES, "image": IMAGE},
    "verify_pointwise_t2i": {"candidate": _ONE_IMAGE, "query": "query", **_ANSWERS},
    "verify_pointwise_i2t": {"candidate": _ONE_SENTENCE, "image": IMAGE, **_ANSWERS},
    "sentence_of_image": {"image": IMAGE},
    "sentence_alone": {},
}


_UNFILLED = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What a template of anyone's may end with."""


class Prompts:
    """The validated prompt files of one folder.

    Attributes:
        sha256: file name -> hash of its content, for the manifest.
    """

    def __init__(
        self, templates: Mapping[str, jinja2.Template], sha256: Mapping[str, str], harmless: Callable[[str], str]
    ) -> None:
        """Wrap what `load_prompts` reads; `harmless` cleans text, and escapes special tokens in it."""
        self._templates = dict(templates)
        self.sha256 = dict(sha256)
        self._harmless = harmless

    def __or__(self, others: Prompts) -> Prompts:
        """Return the prompts of two folders, for the tokenizer of the first."""
        return Prompts(self._templates | others._templates, self.sha256 | others.sha256, self._harmless)

    def render(self, name: str, **variables: Any) -> str:
        """Return the user's turn; `IMAGE` and `LABEL` remain placeholders, all other text is data.

        Raises:
            UserError: the template cannot be filled in with these variables.
        """
        try:
            text = self._templates[name].render(**_clean(variables, self._harmless))
        except _UNFILLED as error:
            raise UserError(f"{name}.jinja: the template cannot be filled in ({error})") from None
        return whole_characters(text).strip()


def load_prompts(
    folder: Path | None = None,
    special_tokens: Collection[str] = (),
    variables: Mapping[str, Mapping[str, Any]] = VARIABLES,
) -> Prompts:
    """Read and check every prompt file.

    A file that the folder lacks is the package's: the folder may be older than that prompt.

    Args:
        folder: holds a `<name>.jinja` for some or all of `variables`; by default `./prompts`, else the
            files that come with the package.
        special_tokens: strings that the tokenizer always reads as one token.
        variables: name of a prompt -> the variables that it must use, with a value of their type.

    Raises:
        UserError: there is no such folder, a template in it has another name than those of `variables`, or a file is
            not a template, lacks a variable or has an unknown one.
    """
    folder = Path(folder) if folder else resource_folder("prompts")
    _check_names(folder, variables)
    templates, sha256 = {}, {}
    for name in variables:
        path = folder / f"{name}.jinja"
        if not path.exists():
            path = packaged_folder("prompts") / path.name
        try:
            source = read_text(path)
            templates[name] = _template(source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"{path}, line {error.lineno}: {error.message}") from None
        except (RecursionError, MemoryError, SyntaxError, ValueError):
            raise UserError(f"{path}: the template is nested too deeply, or no text") from None
        _check_variables(path, variables[name], templates[name])
        sha256[path.name] = hashlib.sha256(source.encode()).hexdigest()
    return Prompts(templates, sha256, escape_special_tokens(special_tokens))


def _check_names(folder: Path, known: Collection[str]) -> None:
    """Refuse a folder that does not exist, and a misspelt name: the package's file would be read in its place."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of prompts; `semcore init DIR` writes a fresh set")
    for path in sorted(folder.glob("*.jinja")):
        if path.stem not in known:
            [nearest] = get_close_matches(path.stem, known, n=1, cutoff=0.0)
            raise UserError(
                f"{path}: no model reads a prompt of this name; the nearest is {nearest}.jinja: rename the file, or "
                f"move it out of {folder}"
            )


@lru_cache(maxsize=128)  # every model has its own prompts, of the same files
def _template(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
    tree = environment.parse(source)
    if fault := fault_of(tree):
        line, what = fault
        raise jinja2.TemplateSyntaxError(
            f"a prompt takes no {what}: it shows variables, chooses with if, and loops over candidates",
            line,
        )
    return environment.from_string(tree)


def escape_special_tokens(special_tokens: Collection[str]) -> Callable[[str], str]:
    """Return a function that cleans text and escapes the special tokens in it.

    Every special token found gets a space after its first character, until none is left.
    """
    # Without blanks around them: in those of "  x" a space more would be found again, without end.
    bare = {token.strip() for token in (*special_tokens, str(IMAGE), str(LABEL))}
    words = sorted((token for token in bare if len(token) > 1), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, words)))

    def harmless(text: str) -> str:
        text = clean_text(text)
        while pattern.search(text):
            text = pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        return text

    return harmless


def _clean(value: Any, harmless: Callable[[str], str]) -> Any:
    if isinstance(value, ImageSlot | LabelSlot):
        return value
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, Mapping):
        return {key: _clean(item, harmless) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item, harmless) for item in value]
    return value


def _check_variables(path: Path, variables: Mapping[str, Any], template: jinja2.Template) -> None:
    """Render the template with a marker for every variable and check that the markers appear."""
    marks: dict[str, list[str]] = {}
    probe = _mark(dict(variables), "", marks)
    known = ", ".join(marks) or "none"
    try:
        text = template.render(**probe)
    except jinja2.UndefinedError as error:
        raise UserError(f"{path}: {error.message}; its variables are: {known}") from None
    except _UNFILLED as error:
        raise UserError(f"{path}: the template cannot be filled in ({error})") from None
    for variable, own in marks.items():
        if len(own) > 1 and any(mark not in text for mark in own):
            raise UserError(
                f"{path}: the prompt does not show {{{{ {variable} }}}} of every candidate; write it between "
                f"{{% for candidate in candidates %}} and {{% endfor %}}; its variables are: {known}"
            )
        if own[0] not in text:
            raise UserError(f"{path}: the prompt never uses {{{{ {variable} }}}}; its variables are: {known}")


def _mark(value: Any, name: str, marks: dict[str, list[str]]) -> Any:
    """Return the value with a marker for every variable, and collect the markers of each variable."""
    if isinstance(value, dict):
        return {key: _mark(item, f"{name}.{key}" if name else key, marks) for key, item in value.items()}
    if isinstance(value, list):
        return [_mark(item, name.removesuffix("s"), marks) for item in value]
    mark = f"@{sum(map(len, marks.values()))}@"
    marks.setdefault(name, []).append(mark)
    return mark
