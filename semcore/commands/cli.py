"""Table of `semcore`'s subcommands, each imported on use."""

from __future__ import annotations

import difflib
import importlib
import sys
from dataclasses import dataclass
from typing import NamedTuple

from semcore import __version__
from semcore.runtime.garbage import end_uncollected, uncollected


class Command(NamedTuple):
    """One subcommand, as the command line takes it.

    Attributes:
        module: in this room; it has a function `main`, and its docstring opens the help.
        settings: the dataclass that `main` takes.
        summary: one line for `semcore --help`.
        positional: settings that may be given without their name, in this order.
        section: the section of a `--config` file that fills the settings, where there is one.
    """

    module: str
    settings: str
    summary: str
    positional: tuple[str, ...] = ()
    section: str | None = None


COMMANDS = {
    "quickstart": Command(
        "quickstart", "QuickstartSettings", "the whole pipeline on drawn scenes, on a CPU: --out RUN"
    ),
    "search": Command(
        "search",
        "SearchSettings",
        "the best items for a sentence or a picture: --run RUN 'a text query' | --image FILE",
        ("text",),
    ),
    "demo": Command("demo", "DemoSettings", "the search page of a run in a browser: --run RUN [--port P]"),
    "serve": Command("serve", "ServeSettings", "the search as an API over HTTP: --run RUN [--port P]"),
    "index": Command(
        "index",
        "IndexSettings",
        "add images to the corpus of a run, remove items, count them: add|remove|stats --run RUN",
        ("action",),
    ),
    "evaluate": Command(
        "evaluate",
        "EvaluateSettings",
        "measure a run in its directions and write its report: --run RUN",
        section="evaluate",
    ),
    "study": Command(
        "study",
        "StudySettings",
        "variants of a configuration x seeds, one table with intervals: STUDY.yaml --data DATA --out RUNS",
        ("study",),
    ),
    "compare": Command(
        "compare",
        "CompareSettings",
        "two measured runs on the same queries, with intervals and tests: RUN1 RUN2",
        ("first", "second"),
    ),
    "plan": Command(
        "plan",
        "PlanSettings",
        "what a configuration's trainings need, by ZeRO stage: --config FILE --gpus N --gpu-memory GB",
    ),
    "convert-checkpoint": Command(
        "convert",
        "ConvertSettings",
        "an original InternVL2.5 or InternVL3 folder as a native one: SRC DST",
        ("src", "dst"),
    ),
    "merge-adapter": Command(
        "merge_adapter",
        "MergeSettings",
        "an adapter and its base as one checkpoint: RUN_OR_ADAPTER DST",
        ("src", "dst"),
    ),
    "init": Command(
        "init",
        "InitSettings",
        "copy prompts, recipes and DeepSpeed configurations out for editing: DIR",
        ("folder",),
    ),
    "env": Command("env", "EnvironmentSettings", "what is installed, which device, what is missing and how to get it"),
}


HELP = """usage: semcore COMMAND [options]

Generative cross-modal retrieval: an MLLM generates the identifier of the matching item.

commands:
{commands}

options:
  -h, --help  Show this message and exit; semcore COMMAND --help has the options of a command.
  --version   Show the version and exit.

examples:
    semcore quickstart --out runs/quickstart
    semcore search --run runs/quickstart "a small red circle above a blue star"
"""


@dataclass
class _Choice:
    """The command to run."""

    command: str
    """Its name."""


def main() -> None:
    """Run the command that `sys.argv` names."""
    first = sys.argv[1:2]
    if first in (["-h"], ["--help"]):
        sys.stdout.write(_help())
    elif first == ["--version"]:
        sys.stdout.write(f"semcore {__version__}\n")
    elif first and first[0] in COMMANDS:
        _run(first[0], sys.argv[2:])
    else:
        from semcore.commands.arguments import run_command

        named = [f"--command={name}" for name in first]
        run_command(_refuse, _Choice, positional=("command",), arguments=named, program="semcore")


def _run(name: str, arguments: list[str]) -> None:
    command = COMMANDS[name]
    end_uncollected()
    with uncollected():
        from semcore.commands.arguments import run_command

        module = importlib.import_module(f"semcore.commands.{command.module}")
    run_command(
        module.main,
        getattr(module, command.settings),
        command.section,
        positional=command.positional,
        arguments=arguments,
        program=f"semcore {name}",
    )


def _refuse(choice: _Choice) -> None:
    from semcore.runtime.errors import UserError

    closest = difflib.get_close_matches(choice.command, COMMANDS, n=1)
    hint = f"did you mean {closest[0]}?" if closest else f"there are {', '.join(COMMANDS)}"
    raise UserError(f"there is no command {choice.command!r}; {hint}")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return HELP.format(commands="\n".join(lines))


if __name__ == "__main__":
    main()
