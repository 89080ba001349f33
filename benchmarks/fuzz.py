"""Damaged inputs for everything that reads what users give: files to import, indexes, shards, settings, prompts, texts.

    python -m benchmarks.fuzz --seconds 20
    python -m benchmarks.fuzz --seconds 60 --targets [prompts,config] --json fuzz.json --table fuzz.md

Valid inputs are changed by hypothesis: values of another type, deep lists, huge numbers, NaN, keys that stand twice,
half surrogate pairs, byte order marks, NUL, long lines, anchors of YAML that multiply, templates that never end, and
headers of safetensors that promise too much. A target has to end, with a result or with one sentence, within 10 seconds
of the processor and 1 GiB. `ours` is the number of different failures of a target, the note has the inputs tried and an
input of each failure.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as bounds

from benchmarks.fuzzing.targets import Target, all_targets, attempt
from benchmarks.report import Row, publish
from semcore.commands.arguments import require_minimum, run_command
from semcore.runtime.config_file import suggestion
from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text
from semcore.runtime.markdown_tables import markdown_table

INPUTS_A_ROUND = 200


@dataclass
class Settings:
    """What is tried, and how long."""

    seconds: float = 20.0
    """Seconds of the processor for each target, from its first input on."""
    targets: list[str] | None = None
    """Names of targets, or their beginnings; by default all of them."""
    seed: int = 0
    """Of the inputs."""
    json: Path | None = None
    """Save the rows in this file."""
    table: Path | None = None
    """Save the table in this file, as markdown."""

    def __post_init__(self) -> None:
        require_minimum(0, self, "seconds", "seed")
        for name in self.targets or []:
            if not any(known.startswith(name) for known in all_targets()):
                raise UserError(f"there is no target {name!r}{suggestion(name, all_targets())}")


def main(settings: Settings) -> None:
    """Try inputs of every chosen target in turn."""
    chosen = [
        target
        for name, target in all_targets().items()
        if settings.targets is None or any(name.startswith(own) for own in settings.targets)
    ]
    rows = [try_target(target, settings.seconds, settings.seed) for target in chosen]
    publish(rows, settings.json, seconds=settings.seconds, seed=settings.seed)
    if settings.table is not None:
        write_table(settings.table, rows)


def try_target(target: Target, seconds: float, first_seed: int) -> Row:
    """Try inputs for some seconds, and return the row with what failed."""
    failures: Counter[str] = Counter()
    tried, begun, examples = 0, 0.0, dict[str, str]()

    def one(value: object) -> None:
        nonlocal tried, begun
        if tried and time.process_time() - begun > seconds:
            return
        tried += 1
        try:
            attempt(target, value)
        except Exception as error:
            failures[place_of(error)] += 1
            examples.setdefault(place_of(error), shown(value))
        begun = begun or time.process_time()  # the first one imports what is needed

    number = first_seed
    while not tried or time.process_time() - begun < seconds:
        many = bounds(
            max_examples=INPUTS_A_ROUND, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        seed(number)(many(given(target.inputs())(one)))()
        number += 1
    said = "; ".join(f"{place} ({times} times, {examples[place]})" for place, times in failures.most_common())
    return Row(target.name, float(len(failures)), None, None, "failures", f"{tried} inputs{'; ' if said else ''}{said}")


def place_of(error: BaseException) -> str:
    """Return an error's kind and the last line of semcore's that it passed, so that equal ones are counted once."""
    frames = [own for own in traceback.extract_tb(error.__traceback__) if "/benchmarks/fuzz" not in own.filename]
    ours = [own for own in frames if "/semcore/" in own.filename or "/data_prep/" in own.filename]
    where = "".join(f" in {'/'.join(Path(own.filename).parts[-2:])}:{own.lineno}" for own in (ours or frames)[-1:])
    return f"{type(error).__name__}{where}: {str(error)[:80]}"


def shown(value: object) -> str:
    """Return the beginning of an input."""
    text = repr(value)
    return text if len(text) < 160 else f"{text[:150]}... {len(text)} letters"


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as a table in markdown."""
    lines = [[row.name, row.note, str(round(row.ours or 0))] for row in rows]
    with atomic_text(path) as handle:
        handle.write(markdown_table(["what reads", "inputs", "failures"], lines, num_texts=2) + "\n")


if __name__ == "__main__":
    run_command(main, Settings)
