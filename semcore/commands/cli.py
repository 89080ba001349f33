"""The command `semcore`, with its subcommands: quickstart, search, evaluate, study, compare, plan and others."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from semcore import __version__
from semcore.commands.arguments import run_command
from semcore.data.directions import Direction
from semcore.runtime.errors import UserError
from semcore.runtime.settings import LineageSettings

COMMANDS = {
    "quickstart": "the whole pipeline on drawn scenes, on a CPU: --out RUN",
    "search": "the best items for a sentence or a picture: --run RUN 'a text query' | --image FILE",
    "evaluate": "measure a run in both directions and write its report: --run RUN",
    "study": "variants of a configuration x seeds, one table with intervals: STUDY.yaml --data DATA --out RUNS",
    "compare": "two measured runs on the same queries, with intervals and tests: RUN1 RUN2",
    "plan": "what a configuration's trainings need, by ZeRO stage: --config FILE --gpus N --gpu-memory GB",
    "convert-checkpoint": "an original InternVL2.5 or InternVL3 folder as a native one: SRC DST",
    "merge-adapter": "an adapter and its base as one checkpoint: RUN_OR_ADAPTER DST",
    "init": "copy prompts, recipes and DeepSpeed configurations out for editing: DIR",
    "env": "what is installed, which device, what is missing and how to get it",
}


@dataclass
class _Choice:
    """Which command to run."""

    command: str
    """Its name."""


@dataclass
class SearchSettings(LineageSettings):
    """What `semcore search` takes."""

    run: Path
    """The run folder."""
    text: str | None = None
    """A sentence; pictures are searched."""
    image: Path | None = None
    """A picture; sentences are searched."""
    top_k: int = 10
    """How many hits to show."""
    split: Literal["all", "train", "val", "test"] = "all"
    """Search the items of one split, or of all."""
    data: Path | None = None
    """Where the dataset is now, should it have moved."""
    json: bool = False
    """Print one JSON object a hit, for machines."""

    def __post_init__(self) -> None:
        if bool(self.text and self.text.strip()) == (self.image is not None):
            raise UserError("search needs one query: a text such as 'a red circle', or --image FILE")
        if self.top_k < 1:
            raise UserError(f"--top-k must be 1 or more, found {self.top_k}")


@dataclass
class ConvertSettings:
    """What `semcore convert-checkpoint` takes."""

    src: Path
    """The original checkpoint's folder; it is only read."""
    dst: Path
    """The native folder to make."""


@dataclass
class MergeSettings(LineageSettings):
    """What `semcore merge-adapter` takes."""

    src: Path
    """The adapter's folder, or a run folder that holds one."""
    dst: Path
    """The checkpoint folder to make."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision to write; "auto" keeps the base's."""


@dataclass
class InitSettings:
    """What `semcore init` takes."""

    folder: Path
    """Where prompts, recipes and ds_configs go."""


@dataclass
class EnvironmentSettings:
    """What `semcore env` takes."""

    build: bool = False
    """Compile what DeepSpeed otherwise compiles at its first start on a CPU."""
    json: bool = False
    """Print JSON, for machines."""


def main() -> None:
    """Run the command that `sys.argv` names."""
    first = sys.argv[1:2]
    if first in (["-h"], ["--help"]):
        sys.stdout.write(_help())
    elif first == ["--version"]:
        sys.stdout.write(f"semcore {__version__}\n")
    else:
        named = [f"--command={name}" for name in first]
        run_command(_start, _Choice, positional=("command",), arguments=named, program="semcore")


def _start(choice: _Choice) -> None:
    if choice.command not in COMMANDS:
        closest = difflib.get_close_matches(choice.command, COMMANDS, n=1)
        hint = f"did you mean {closest[0]}?" if closest else f"there are {', '.join(COMMANDS)}"
        raise UserError(f"there is no command {choice.command!r}; {hint}")
    _RUNNERS[choice.command](sys.argv[2:])


def _quickstart(arguments: list[str]) -> None:
    from semcore.commands.quickstart import QuickstartSettings, main

    run_command(main, QuickstartSettings, arguments=arguments, program="semcore quickstart")


def _search(arguments: list[str]) -> None:
    run_command(search, SearchSettings, positional=("text",), arguments=arguments, program="semcore search")


def _evaluate(arguments: list[str]) -> None:
    from semcore.commands.evaluate import EvaluateSettings, main

    run_command(main, EvaluateSettings, "evaluate", arguments=arguments, program="semcore evaluate")


def _study(arguments: list[str]) -> None:
    from semcore.commands.study import StudySettings, main

    run_command(main, StudySettings, positional=("study",), arguments=arguments, program="semcore study")


def _compare(arguments: list[str]) -> None:
    from semcore.commands.compare import CompareSettings, main

    positional = ("first", "second")
    run_command(main, CompareSettings, positional=positional, arguments=arguments, program="semcore compare")


def _plan(arguments: list[str]) -> None:
    from semcore.commands.plan import PlanSettings, main

    run_command(main, PlanSettings, arguments=arguments, program="semcore plan")


def _convert(arguments: list[str]) -> None:
    program = "semcore convert-checkpoint"
    run_command(convert, ConvertSettings, positional=("src", "dst"), arguments=arguments, program=program)


def _merge(arguments: list[str]) -> None:
    program = "semcore merge-adapter"
    run_command(merge, MergeSettings, positional=("src", "dst"), arguments=arguments, program=program)


def _init(arguments: list[str]) -> None:
    run_command(init, InitSettings, positional=("folder",), arguments=arguments, program="semcore init")


def _env(arguments: list[str]) -> None:
    run_command(env, EnvironmentSettings, arguments=arguments, program="semcore env")


_RUNNERS: dict[str, Callable[[list[str]], None]] = {
    "quickstart": _quickstart,
    "search": _search,
    "evaluate": _evaluate,
    "study": _study,
    "compare": _compare,
    "plan": _plan,
    "convert-checkpoint": _convert,
    "merge-adapter": _merge,
    "init": _init,
    "env": _env,
}


def search(settings: SearchSettings) -> None:
    """Print the ranked hits of one query."""
    from semcore.retrieval.retriever import Retriever

    retriever = Retriever.from_run(
        settings.run,
        data=settings.data,
        split=settings.split,
        base=settings.base,
        allow_mismatch=settings.allowed,
    )
    if settings.image is not None:
        hits = retriever.search(image=settings.image, top_k=settings.top_k)
    else:
        hits = retriever.search(text=settings.text or "", top_k=settings.top_k)
    if settings.json:
        for hit in hits:
            sys.stdout.write(json.dumps(asdict(hit), default=str, ensure_ascii=False) + "\n")
    else:
        Console(highlight=False).print(_hit_table(hits))
    if note := retriever.confidence_note(Direction.T2I if settings.image is None else Direction.I2T):
        sys.stderr.write(f"search: {note}\n")


def convert(settings: ConvertSettings) -> None:
    """Convert a checkpoint, and say what it became."""
    from semcore.models.conversion import convert_checkpoint

    config: Any = convert_checkpoint(settings.src, settings.dst, progress=True)
    text_model = config.text_config.model_type
    sys.stdout.write(f"{settings.dst}: InternVL with a {text_model} text model; use it with --model {settings.dst}\n")


def merge(settings: MergeSettings) -> None:
    """Merge an adapter, and say what it became."""
    from semcore.models.merge_adapter import merge_adapter

    merged = merge_adapter(
        settings.src, settings.dst, base=settings.base, dtype=settings.dtype, allow_mismatch=settings.allowed
    ).model
    size = sum(weight.numel() for weight in merged.parameters())
    sys.stdout.write(f"{settings.dst}: {size:,} weights, adapter merged; use it as any checkpoint\n")


def init(settings: InitSettings) -> None:
    """Copy what a user edits, and say where it went."""
    from semcore.commands.init import copy_out

    written = copy_out(settings.folder)
    sys.stdout.write(f"{len(written)} files written to {settings.folder}; commands started there use them\n")


def env(settings: EnvironmentSettings) -> None:
    """Print what `semcore.commands.env` finds."""
    from semcore.commands.env import compile_operation, describe_environment

    if settings.build:
        compile_operation()
    facts = describe_environment()
    if settings.json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        _print_environment(facts, Console(highlight=False))


def _hit_table(hits: list[Any]) -> Table:
    """Return the hits as a table; what an item is depends on the direction.

    Args:
        hits: `semcore.retrieval.retriever.Hit`. The annotation does not say so, since jsonargparse imports what
            annotations of this module need, and that would be torch.
    """
    table = Table("", "item", "score", "confidence", box=None)
    table.add_column("identifier", overflow="fold")
    table.add_column("what it is", overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        what = hit.text if hit.text is not None else _shortened(hit.image_path)
        confidence = "" if hit.confidence is None else f"{hit.confidence:.2f}"
        table.add_row(str(rank), hit.item_id, f"{hit.score:.3f}", confidence, escape(hit.identifier), escape(what))
    return table


def _shortened(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _print_environment(facts: dict[str, Any], console: Console) -> None:
    hardware, table = facts["hardware"], Table(show_header=False, box=None)
    for name, value in {
        "semcore": f"{facts['semcore']} {facts['git'] or ''}",
        "device": facts["device"] or "none: torch is missing",
        "processes talk over": facts["distributed_backend"] or "",
        "processor": f"{hardware['cpu']}, {hardware['num_cores']} cores, {hardware['memory_bytes'] / 1e9:.0f} GB",
        "system": hardware["platform"],
        "DeepSpeed on a CPU": "compiled" if facts["operation_compiled"] else "compiles at its first start (a minute)",
        **facts["libraries"],
    }.items():
        table.add_row(name, value)
    console.print(table)
    for part in facts["missing"]:
        console.out(f"missing: {part['what']} (for {part['needed_for']}); get it with: {part['get_it']}")
    if not facts["missing"]:
        console.out("nothing is missing")
    for library in facts["untested"]:
        console.out(f"not the tested version: {library['name']} {library['installed']} (tested: {library['tested']})")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {meaning}" for name, meaning in COMMANDS.items()]
    return (
        "usage: semcore COMMAND [--option value ...]\n\n" + "\n".join(lines) + "\n\nsemcore COMMAND --help says more\n"
    )


if __name__ == "__main__":
    main()
