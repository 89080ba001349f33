"""Parsing of `sys.argv` and a YAML section into a dataclass, with one sentence for a user's mistake.

With `help_text`, the only module that knows jsonargparse. Its types and conversions are used; where it refuses, what
is wrong is found by parsing each setting on its own, and said in a sentence of ours.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import shlex
import subprocess
import sys
from argparse import ArgumentError
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from semcore.commands.help_text import make_formatter, manual_of, option_groups, usage_of
from semcore.commands.settings_schema import build, leaf_types, required_settings
from semcore.runtime.config_file import FLAGS_ONLY, read_section, suggestion
from semcore.runtime.errors import UserError
from semcore.runtime.files import DISK_FULL, DISK_FULL_SENTENCE, is_disk_full, plain_data
from semcore.runtime.ranks import is_main_process, leave_at_once, num_processes
from semcore.runtime.settings import option
from semcore.runtime.shared_folder import confirm_one_folder

S = TypeVar("S")

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
        main: the command's function.
        settings_type: a dataclass with attribute docstrings; a field that is a dataclass is a
            section, its fields are given as `--section.key value`. Help opens with the docstring
            of the module it stands in.
        section: the top-level section of the `--config` file that fills the dataclass before the
            flags do; `settings_type` then has a field `config: Path | None`.
        positional: fields that may be given without their name, in this order.
        arguments: instead of `sys.argv[1:]`, for commands with subcommands.
        program: the command's name in the help text.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name or a text that the terminal cannot show ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        given = sys.argv[1:] if arguments is None else arguments
        settings = parse(settings_type, given, section, positional=positional, program=program)
        if section is not None:
            confirm_one_folder(getattr(settings, "run", None))
        main(settings)
    except UserError as error:
        _exit_with(str(error), 2)
    except KeyboardInterrupt:
        _exit_with("interrupted; the same command again goes on from here", 1)
    except subprocess.CalledProcessError as error:
        _exit_with(f"`{shlex.join(map(str, error.cmd))}` has failed; what it said stands above", 2)
    except Exception as error:
        if is_disk_full(error):
            _exit_with(DISK_FULL_SENTENCE.format(where="the disk"), 2)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            _exit_with(str(UserError(f"no file can have a name as long as {error.filename}; give another")), 2)
        raise
    if num_processes() > 1:
        leave_at_once()


def parse(
    settings_type: type[S],
    arguments: Sequence[str],
    section: str | None = None,
    *,
    positional: Sequence[str] = (),
    program: str | None = None,
) -> S:
    """Return the settings from the arguments and the config file's section.

    Raises:
        UserError: an unknown option or key, a wrong type or range, a config file that is missing
            or is no YAML.
    """
    hints = leaf_types(settings_type)
    flags, wants_help = _split_arguments(arguments, hints, positional)
    parser = make_parser(cast(type, settings_type), tuple(positional), program or _program_name())
    if wants_help:
        parser.parse_args(["--help"])
    from_file = read_section(Path(flags["config"]), section, hints) if section and "config" in flags else {}
    base = Namespace()
    for key, value in from_file.items():
        if value is None and not _takes_null(hints[key]):  # jsonargparse treats it as "not given"
            where = f"{section}.{key} in {flags['config']}"
            raise UserError(f"{where} takes {_expected(hints[key])}, found null; leave the line out for the default")
        base[key] = value
    try:
        parsed = parser.parse_args([f"--{key}={value}" for key, value in flags.items()], namespace=base)
    except ArgumentError as error:
        places = {key: f"{section}.{key} in {flags.get('config')}" for key in from_file}
        places |= {key: option(key) for key in flags}
        sentence = _wrong_value(hints, {**from_file, **flags}, places) or _missing(settings_type, places, positional)
        raise UserError(sentence or " ".join(str(error).split())) from None
    return build(settings_type, vars(parser.instantiate(parsed)))


def resolved(settings: Any) -> dict[str, Any]:
    """Return the settings as plain data for config.yaml and the manifest.

    Paths (`data`, `run`, `config`, `embeddings`, `base`), whether to run (`check`) and allowed mismatches
    (`allow_mismatch`) are left out.
    """
    return {key: plain_data(value) for key, value in dataclasses.asdict(settings).items() if key not in FLAGS_ONLY}


def announcer(name: str) -> Callable[[str], None]:
    """Return a function that prints a command's sentences, prefixed with its name, in the main process only."""

    def say(sentence: str) -> None:
        if is_main_process():
            sys.stdout.write(f"{name}: {sentence}\n")
            sys.stdout.flush()

    return say


def _exit_with(sentence: str, status: int) -> None:
    """Print why a command ends, and end it.

    All processes of a launcher meet a mistake, so that the main one says it; a disk gets full under one of them.
    """
    if is_main_process() or sentence.startswith(DISK_FULL):
        sys.stderr.write(f"error: {sentence}\n")
    sys.exit(status)


@lru_cache
def make_parser(settings_type: type, positional: tuple[str, ...], name: str) -> ArgumentParser:
    """Return a parser of all settings; a section's settings are options, the section itself is not.

    One is made for each command: a study parses the options of all its own before it starts the first.
    """
    description, examples = manual_of(settings_type)
    parser = ArgumentParser(
        exit_on_error=False,
        add_help=False,
        prog=name,
        usage=usage_of(settings_type, positional, name),
        description=description,
        epilog=examples,
        formatter_class=make_formatter(settings_type, positional),
    )
    for group in option_groups(settings_type, positional):
        others = {field.name for field in dataclasses.fields(group.settings_type)} - set(group.names)
        section = parser.add_argument_group(group.title, group.description or None)
        section.add_class_arguments(
            group.settings_type,
            group.prefix.rstrip(".") or None,
            as_group=False,
            instantiate=False,
            skip=others,
            default=None if group.default is None else {own: getattr(group.default, own) for own in group.names},
        )
    parser.add_argument_group("help").add_argument("-h", "--help", action="help", help="Show this message and exit.")
    return parser


def _program_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else f"python {sys.argv[0]}"


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
            raise UserError(f"unknown option --{name}{suggestion(key, hints, option)}")
        flags[key] = value if equals else _take_value(name, hints[key], rest, may_be_another=bool(unnamed))
    return flags, False


def _take_value(name: str, hint: Any, rest: list[str], *, may_be_another: bool) -> str:
    """Take an option's value from the arguments after it; a bare switch means true."""
    has_value = bool(rest) and not rest[0].startswith("--")
    if hint is bool and not (has_value and rest[0].lower() in ("true", "false", "yes", "no")):
        if has_value and not may_be_another:
            raise UserError(f"--{name} takes true or false, found {rest[0]!r}")
        return "true"
    if not has_value:
        raise UserError(f"--{name} needs a value: {_expected(hint)}")
    return rest.pop(0)


def _wrong_value(hints: dict[str, Any], given: dict[str, Any], places: dict[str, str]) -> str | None:
    """Return a sentence about the first setting whose value is not of its type; `places` says where it was given."""
    for key, value in given.items():
        alone = ArgumentParser(exit_on_error=False)
        alone.add_argument("--value", type=hints[key])
        try:
            # What a command line says is text, what a file says has been read as YAML.
            alone.parse_args([f"--value={value}"]) if places[key] == option(key) else alone.parse_object(
                {"value": value}
            )
        except ArgumentError:
            return f"{places[key]} takes {_expected(hints[key])}, found {value!r}"
    return None


def _missing(settings_type: type, given: Collection[str], positional: Sequence[str]) -> str | None:
    """Return a sentence about the settings that have no default and were not given."""
    missing = [key for key in required_settings(settings_type) if key not in given]
    names = [key.upper() if key in positional else option(key) for key in missing]
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing; see --help" if names else None


def _takes_null(hint: Any) -> bool:
    return hint in (Any, NoneType) or NoneType in get_args(hint)


def _expected(hint: Any) -> str:
    """Describe a type in words."""
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
        if get_origin(inner[0]) is tuple:
            return "a list such as [[1, 2], [3, 4]]"
        return f"a list such as {'[1, 2]' if inner[0] in (int, float) else '[a, b]'}"
    return f"a value of type {hint}"


def require_minimum(least: float, settings: Any, *names: str) -> None:
    """Refuse settings below `least`; None is allowed, where the type allows it.

    Raises:
        UserError: names the flag and what was found.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise UserError(f"{option(name)} must be {least} or more, found {value}")
