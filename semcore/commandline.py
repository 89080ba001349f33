"""From `sys.argv` and a YAML section to a dataclass, and from a user's mistake to one sentence.

The only module that knows jsonargparse. Its types, conversions and help text are used; its error
messages are replaced by sentences that say what was found and what to type.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from semcore.errors import UserError
from semcore.files import DISK_FULL_SENTENCE, is_disk_full
from semcore.processes import is_main_process

S = TypeVar("S")

SECTIONS = ("caption", "identifiers", "train_identifier", "candidates", "train_verifier", "evaluate")
# Where things lie and whether to run at all: flags of every command, never part of a stage's settings.
FLAGS_ONLY = ("data", "run", "config", "check")

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def run_command(
    main: Callable[[S], None],
    settings_type: type[S],
    section: str | None = None,
    *,
    positional: Sequence[str] = (),
    arguments: Sequence[str] | None = None,
    program: str | None = None,
) -> None:
    """Parse the command line, run `main`, and turn a `UserError` into one sentence and exit code 2.

    Args:
        main: what the command does.
        settings_type: a dataclass with attribute docstrings; a field that is a dataclass is a
            section, its fields are given as `--section.key value`.
        section: the top-level section of the `--config` file that fills the dataclass before the
            flags do; `settings_type` then has a field `config: Path | None`.
        positional: fields that may be given without their name, in this order.
        arguments: instead of `sys.argv[1:]`, for commands with subcommands.
        program: what the help text calls the command.
    """
    try:
        given = sys.argv[1:] if arguments is None else arguments
        main(parse(settings_type, given, section, positional=positional, program=program))
    except UserError as error:
        _exit_with(str(error))
    except Exception as error:
        if not is_disk_full(error):
            raise
        _exit_with(DISK_FULL_SENTENCE.format(where="the disk"))


def parse(
    settings_type: type[S],
    arguments: Sequence[str],
    section: str | None = None,
    *,
    positional: Sequence[str] = (),
    program: str | None = None,
) -> S:
    """Return the settings that the arguments and the config file's section ask for.

    Raises:
        UserError: an unknown option or key, a wrong type or range, a config file that is missing
            or is no YAML.
    """
    hints = _leaf_hints(settings_type)
    flags, wants_help = _split_arguments(arguments, hints, positional)
    parser = _make_parser(settings_type, positional, program)
    if wants_help:
        parser.parse_args(["--help"])
    from_file = _read_section(Path(flags["config"]), section, hints) if section and "config" in flags else {}
    base = Namespace()
    for key, value in from_file.items():
        base[key] = value
    try:
        parsed = parser.parse_args([f"--{key}={value}" for key, value in flags.items()], namespace=base)
        return settings_type(**vars(parser.instantiate(parsed)))
    except ArgumentError as error:
        raise UserError(_sentence(str(error), hints, flags, from_file, section, positional)) from None


def resolved(settings: Any) -> dict[str, Any]:
    """Return the settings as plain data for config.yaml and the manifest.

    What says where things lie (`data`, `run`, `config`) or only whether to run (`check`) is left out.
    """
    return {key: _plain(value) for key, value in dataclasses.asdict(settings).items() if key not in FLAGS_ONLY}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _exit_with(sentence: str) -> None:
    if is_main_process():
        sys.stderr.write(f"error: {sentence}\n")
    sys.exit(2)


def _make_parser(settings_type: type, positional: Sequence[str], program: str | None) -> ArgumentParser:
    name = program or _program_name()
    usage = " ".join([name, *(key.upper() for key in positional), "[--option value ...]"])
    parser = ArgumentParser(exit_on_error=False, prog=name, usage=usage)
    parser.add_class_arguments(settings_type, as_group=True)
    return parser


def _program_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec else f"python {sys.argv[0]}"


def _leaf_hints(settings_type: type, prefix: str = "") -> dict[str, Any]:
    """Return the type of every setting by its dotted name; sections are walked into."""
    hints = get_type_hints(settings_type)
    leaves: dict[str, Any] = {}
    for field in dataclasses.fields(settings_type):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            leaves.update(_leaf_hints(hint, f"{prefix}{field.name}."))  # type: ignore[arg-type]
        else:
            leaves[prefix + field.name] = hint
    return leaves


def _split_arguments(
    arguments: Sequence[str], hints: dict[str, Any], positional: Sequence[str]
) -> tuple[dict[str, str], bool]:
    """Return setting -> text as typed, and whether help is asked for."""
    flags: dict[str, str] = {}
    unnamed = list(positional)
    rest = list(arguments)
    while rest:
        token = rest.pop(0)
        if token in ("-h", "--help"):
            return flags, True
        if not token.startswith("--"):
            if not unnamed:
                raise UserError(f"unexpected argument {token!r}; options are written --name value, see --help")
            flags[unnamed.pop(0)] = token
            continue
        name, equals, value = token[2:].partition("=")
        key = name.replace("-", "_")
        if key not in hints:
            raise UserError(f"unknown option --{name}{_suggestion(key, hints, '--')}")
        flags[key] = value if equals else _take_value(name, hints[key], rest)
    return flags, False


def _take_value(name: str, hint: Any, rest: list[str]) -> str:
    """Take an option's value from the arguments after it; a bare switch means true."""
    has_value = bool(rest) and not rest[0].startswith("--")
    if hint is bool and not (has_value and rest[0].lower() in ("true", "false", "yes", "no")):
        return "true"
    if not has_value:
        raise UserError(f"--{name} needs a value: {_expected(hint)}")
    return rest.pop(0)


def _read_section(path: Path, section: str, hints: dict[str, Any]) -> dict[str, Any]:
    """Return the section of a config file as dotted key -> value; a section it lacks is empty."""
    document = _read_yaml(path)
    if not isinstance(document, dict):
        raise UserError(f"{path} has no sections; it needs lines such as '{section}:' with settings below them")
    allowed = dict.fromkeys((*SECTIONS, section))
    for name in document:
        if name not in allowed:
            raise UserError(f"unknown section {name!r} in {path}{_suggestion(str(name), allowed)}")
    return _flatten(document.get(section) or {}, hints, path, section)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no config file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the config file {path} cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML ({error.problem})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None


def _flatten(values: Any, hints: dict[str, Any], path: Path, section: str, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        raise UserError(f"{section} in {path} holds {values!r}, and needs lines such as 'key: value' below it")
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if key in FLAGS_ONLY:
            raise UserError(f"{key!r} in section {section} of {path} belongs on the command line: --{key}")
        if key in hints:
            flat[key] = value
        elif any(known.startswith(f"{key}.") for known in hints):
            flat.update(_flatten(value or {}, hints, path, f"{section}.{key}", f"{key}."))
        else:
            raise UserError(f"unknown key {key!r} in section {section} of {path}{_suggestion(key, hints)}")
    return flat


def _suggestion(name: str, known: Iterable[str], mark: str = "") -> str:
    closest = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {mark}{closest[0]}?" if closest else "; see --help for what there is"


def _sentence(
    message: str,
    hints: dict[str, Any],
    flags: dict[str, str],
    from_file: dict[str, Any],
    section: str | None,
    positional: Sequence[str],
) -> str:
    """Say in our words what jsonargparse refused."""
    missing = re.search(r"arguments are required: (.*)", message)
    if missing:
        names = [name if name in positional else f"--{name}" for name in missing[1].split(", ")]
        return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing; see --help"
    found = re.search(r'Parser key "([^"]+)"', message)
    if not found or found[1] not in hints:
        return " ".join(message.split())
    key = found[1]
    if key in flags:
        return f"--{key} takes {_expected(hints[key])}, found {flags[key]!r}"
    return f"{section}.{key} in {flags.get('config')} takes {_expected(hints[key])}, found {from_file.get(key)!r}"


def _expected(hint: Any) -> str:
    """Put a type into words."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    if hint in words:
        return words[hint]
    if hint is NoneType:
        return "null"
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, inner))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_expected(choice) for choice in inner)
    if get_origin(hint) in (list, tuple):
        return f"a list such as [{_example(inner[0])}]"
    return f"a value of type {hint}"


def _example(hint: Any) -> str:
    return {int: "1, 2", float: "0.1, 0.2"}.get(hint, "a, b")
