"""One section of a YAML config file as flat settings, checked key by key."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from semcore.runtime.errors import UserError
from semcore.runtime.settings import option
from semcore.runtime.text_files import read_text
from semcore.runtime.yaml_values import as_type, meant, parse_yaml

SECTIONS = (
    "caption", "identifiers", "train_identifier", "train_ranking", "candidates", "train_verifier",
    "train_verifier_blocks", "evaluate",
)  # fmt: skip
"""The stages of a run, whose settings its config.yaml holds."""
# Paths, whether to run at all, tolerated mismatches: flags of every command, never part of a stage's settings.
FLAGS_ONLY = ("data", "run", "config", "check", "embeddings", "base", "allow_mismatch")


def read_section(path: Path, section: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section of a config file as dotted key -> value; a section it lacks is empty.

    Args:
        path: the YAML file; its top-level keys are stages.
        section: the stage whose settings are wanted.
        known: the dotted names of all settings of that stage, and their types.

    Raises:
        UserError: the file is missing or no YAML, or holds an unknown section or key.
    """
    document = _parse(path)
    if not isinstance(document, dict):
        raise UserError(f"{path} has no sections; it needs lines such as '{section}:' with settings below them")
    allowed = dict.fromkeys((*SECTIONS, section))
    for name in document:
        if name not in allowed:
            raise UserError(f"unknown section {name!r} in {path}{suggestion(str(name), allowed)}")
    return _flatten(document.get(section), known, path, section)


def read_yaml(path: Path) -> Any:
    """Read a YAML file, words as YAML 1.2 has them, without constructing objects.

    Raises:
        UserError: the file is missing or no valid YAML (with the line number).
    """
    return meant(_parse(path))


def _parse(path: Path) -> Any:
    try:
        return parse_yaml(read_text(path))
    except FileNotFoundError:
        raise UserError(f"there is no config file {path}") from None
    except OSError as error:
        raise UserError(f"the config file {path} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        hint = "; indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
        raise UserError(f"{path}{line}: not valid YAML ({error.problem}){hint}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None


def suggestion(name: str, known: Iterable[str], spell: Callable[[str], str] = str) -> str:
    """Return the end of a sentence about an unknown name: the closest known one of its section, or all of them.

    Args:
        name: what was found, its section before the last dot.
        known: the names there are.
        spell: turns a name into what is typed.
    """
    names = list(known)
    section, _, last = name.rpartition(".")
    siblings = [known for known in names if known.rpartition(".")[0] == section] or names
    by_last = {known.rpartition(".")[2]: known for known in siblings}
    found = [by_last[close] for close in difflib.get_close_matches(last, by_last, n=1)]
    found += [known for known in names if known.rpartition(".")[2] == last]
    if found:
        return f"; did you mean {spell(found[0])}?"
    return f"; there are {', '.join(map(spell, siblings if section else names))}"


def _flatten(values: Any, known: Mapping[str, Any], path: Path, where: str, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        if meant(values) is None:
            return {}
        raise UserError(f"{where} in {path} is {meant(values)!r}; it needs lines such as 'key: value' below it")
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if key in FLAGS_ONLY:
            raise UserError(f"{key!r} in {where} of {path} belongs on the command line, as {option(key)}")
        if key in known:
            flat[key] = as_type(value, known[key])
        elif any(setting.startswith(f"{key}.") for setting in known):
            flat.update(_flatten(value, known, path, f"{where}.{name}", f"{key}."))
        else:
            keys = [setting for setting in known if setting not in FLAGS_ONLY]
            raise UserError(f"unknown key {key!r} in {where} of {path}{suggestion(key, keys)}")
    return flat
