"""Every stage of a run killed at random moments, on a full disk and on a read-only one, beside the same undisturbed.

    python -m benchmarks.kill_matrix --out runs/kills
    python -m benchmarks.kill_matrix --out runs/kills --stages [caption,index-add] --kills 10
    python -m benchmarks.kill_matrix --out runs/kills --json kill_matrix.json --table kill_matrix.md

Each stage is run once undisturbed, then in rounds: SIGKILL for it and all its processes, at a moment that is drawn, the
same command again, and so on until it ends by itself. Then every file of its folder is compared with the undisturbed
one's. A stage of one process is forked from one that has imported what it needs, and so is each process of a launcher.
Half of the moments are any time, the others just when a file has changed. The disk is one in memory: it gets room for a
part of what the stage writes, which has to end in one sentence and exit code 2, and after more room the same command
has to end as if nothing had been; the same on a disk that is read-only when the command starts. After each fault every
file under its final name is read. `ours` is the number of problems. Without the right to mount a disk only kills are
done. A row that is done is kept in OUT, and not measured again as long as no file of the code has changed. DeepSpeed's
compiled operations are copied into OUT, so that a kill leaves no lock on those that others use.

What is not compared: what was measured (seconds, memory, times of day), locks, and what commands printed.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.comparison import differences, files_below, half_written
from benchmarks.faults.disk import PAGE_BYTES, Disk, small_disk
from benchmarks.faults.helpers import caption_server
from benchmarks.faults.processes import Ended, Moment, draw_moment, import_all, run, used_bytes, warm_server
from benchmarks.faults.stages import Stage, all_stages
from benchmarks.report import Row, not_run, publish
from semcore.commands.arguments import require_minimum, run_command
from semcore.commands.env import extensions_folder
from semcore.runtime.config_file import suggestion
from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text, hash_of, read_json, sha256_of, write_json
from semcore.runtime.hardware import git_sha
from semcore.runtime.markdown_tables import markdown_table
from semcore.runtime.packaged_files import resource_folder
from semcore.runtime.subprocesses import step_environment

NUM_SHOWN = 4
CODE = ("benchmarks/faults", "data_prep", "ds_configs", "prompts", "recipes", "semcore")
SENTENCES = ("no space left", "cannot be written", "its disk is full")


@dataclass
class Settings:
    """Which stages are disturbed, and how often."""

    out: Path
    """Folder of the small disk, of what undisturbed stages leave, and of the rows that are done."""
    stages: list[str] | None = None
    """Names of stages; by default all of them."""
    kills: int = 6
    """Kills of each stage; those that start several processes of Python get a third, but two at least."""
    kills_a_round: int = 3
    """So many kills, at most, before a stage is let to its end and compared."""
    full: int = 2
    """How often its disk is full, at an amount that is drawn."""
    seed: int = 0
    """Of the moments and amounts."""
    json: Path | None = None
    """Save the rows in this file."""
    table: Path | None = None
    """Save the table in this file, as markdown."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "kills", "kills_a_round")
        require_minimum(0, self, "full", "seed")
        for name in self.stages or []:
            if name not in all_stages():
                raise UserError(f"there is no stage {name!r}{suggestion(name, all_stages())}")


class Found(NamedTuple):
    """What was found of one stage and one kind of fault.

    Attributes:
        problems: sentences; empty where all was well.
        note: what was done.
    """

    problems: list[str]
    note: str


@dataclass(frozen=True)
class Bench:
    """Where stages are run.

    Attributes:
        disk: what they write on.
        after: folder of what undisturbed ones leave.
        server: address of the caption server.
        log: what the last of them printed.
        extensions: DeepSpeed's compiled operations.
    """

    disk: Disk
    after: Path
    server: str
    log: Path
    extensions: Path

    def start(self, stage: Stage) -> None:
        """Put on the disk what a stage starts from."""
        self.disk.limit()
        self.disk.fill(self.after / stage.needs if stage.needs else None)
        stage.prepare(self.disk.folder)

    def run(self, stage: Stage, words: Sequence[str], moment: Moment | None = None) -> Ended:
        """Run a stage's command, and kill it at a moment."""
        forked = stage.launches == 1
        if forked:
            import_all(stage.modules)
        server = warm_server() if stage.launched else None
        environment = _environment(self.extensions)
        return run(words, environment, self.disk.folder, self.log, moment, forked=forked, server=server)

    def words(self, stage: Stage) -> list[str]:
        """Return a stage's command; what it needs has to be on the disk."""
        return stage.words(self.disk.folder, self.server)


def main(settings: Settings) -> None:
    """Disturb the chosen stages one after the other."""
    stages = all_stages()
    rows: list[Row] = []
    out, code = settings.out.absolute(), code_fingerprint()
    with small_disk(out / "disk") as disk, caption_server() as server:
        bench = Bench(disk, out / code / "after", server, out / "output.txt", _own_extensions(out))
        for name in stages if settings.stages is None else settings.stages:
            kept = out / code / "rows" / f"{name}-{hash_of(settings.kills, settings.full, settings.seed)}.json"
            if not kept.exists():
                write_json(kept, {"rows": [asdict(row) for row in disturb(bench, stages, stages[name], settings)]})
            rows += [Row(**row) for row in read_json(kept)["rows"]]
    facts = {"kills": settings.kills, "full": settings.full, "seed": settings.seed, "commit": git_sha(), "code": code}
    publish(rows, settings.json, **facts)
    if settings.table is not None:
        write_table(settings.table, rows)


def code_fingerprint() -> str:
    """Return a hash of every file that a row depends on; what Python compiles is none."""
    root = resource_folder("recipes").parent
    files = [path for name in CODE for path in sorted((root / name).rglob("*")) if path.is_file()]
    own = [f"{path.relative_to(root)} {sha256_of(path)}" for path in files if "__pycache__" not in path.parts]
    return hashlib.sha256("\n".join([*own, sha256_of(Path(__file__))]).encode()).hexdigest()[:16]


def _own_extensions(out: Path) -> Path:
    """Copy the operations that are compiled already."""
    folder = out / "torch_extensions"
    if not folder.exists() and extensions_folder().exists():
        shutil.copytree(extensions_folder(), folder, ignore=shutil.ignore_patterns("lock"))
    return folder


def disturb(bench: Bench, stages: dict[str, Stage], stage: Stage, settings: Settings) -> Iterator[Row]:
    """Yield the rows of one stage."""
    whole = undisturbed(bench, stages, stage)
    rng = random.Random(f"{settings.seed} {stage.name}")
    num_kills = settings.kills if stage.launches == 1 else min(settings.kills, max(2, settings.kills // 3))
    yield _row(f"{stage.name}, killed", killed(bench, stage, whole, rng, num_kills, settings.kills_a_round))
    for fault, times in (("disk full", settings.full), ("disk read-only", min(1, settings.full))):
        if not times:
            continue
        name = f"{stage.name}, {fault}"
        if bench.disk.why_not:
            yield not_run(name, bench.disk.why_not)
        elif fault == "disk full":
            yield _row(name, disk_full(bench, stage, whole, rng, times))
        else:
            yield _row(name, read_only(bench, stage))


def undisturbed(bench: Bench, stages: dict[str, Stage], stage: Stage) -> Ended:
    """Run a stage, and those that it needs where they have not been run yet, and keep what they leave.

    Raises:
        UserError: it fails.
    """
    if stage.needs and not (bench.after / stage.needs).exists():
        undisturbed(bench, stages, stages[stage.needs])
    bench.start(stage)
    ended = bench.run(stage, bench.words(stage))
    if ended.code != 0:
        raise UserError(f"{stage.name} fails undisturbed: {_tail(ended.output)}")
    kept = Disk(bench.after / stage.name)
    kept.folder.mkdir(parents=True, exist_ok=True)
    kept.fill(bench.disk.folder)
    return ended


def killed(bench: Bench, stage: Stage, whole: Ended, rng: random.Random, num_kills: int, a_round: int) -> Found:
    """Kill a stage again and again, and compare what it leaves when it is let to its end."""
    problems: list[str] = []
    done, rounds = 0, 0
    while done < num_kills and rounds < 2 * num_kills:  # now and then a moment is later than the end
        bench.start(stage)
        words = bench.words(stage)
        for _ in range(min(a_round, num_kills - done)):
            ended = bench.run(stage, words, draw_moment(rng, whole))
            if ended.code is not None:
                problems += _failed(stage, ended)
                whole = ended  # the first run of all is slower, and its moments too late for the others
                break
            done += 1
            problems += [f"half-written after a kill: {name}" for name in half_written(bench.disk.folder)]
        problems += _let_to_end(bench, stage, words)
        rounds += 1
    num_files = sum(1 for _ in files_below(bench.after / stage.name))
    return Found(problems, f"{done} kills, {rounds} times to the end, {num_files} files compared each time")


def disk_full(bench: Bench, stage: Stage, whole: Ended, rng: random.Random, times: int) -> Found:
    """Give a stage room for a part of what it writes, and then all that it needs."""
    problems, refused = list[str](), 0
    for number in range(times):
        bench.start(stage)
        words = bench.words(stage)
        before = used_bytes(bench.disk.folder)
        # Spread over what it writes: the first part of it, the second, ...
        part = (number + rng.random()) / times
        bench.disk.limit(max(before + PAGE_BYTES, int(before + part * (whole.peak_bytes - before))))
        ended = bench.run(stage, words)
        bench.disk.limit()
        refused += ended.code != 0
        problems += _one_sentence(stage, ended) if ended.code else []
        problems += [f"half-written on a full disk: {name}" for name in half_written(bench.disk.folder)]
        problems += _let_to_end(bench, stage, words)
    return Found(problems, f"{times} times too little room, {refused} times the command said so")


def read_only(bench: Bench, stage: Stage) -> Found:
    """Start a stage on a disk that cannot be written, and then on one that can."""
    bench.start(stage)
    words = bench.words(stage)
    with bench.disk.read_only():
        ended = bench.run(stage, words)
    problems = _one_sentence(stage, ended) if ended.code else ["it ends as if all were well"]
    sentence = next((line for line in ended.output.splitlines() if "error: " in line), "")
    where = sentence.replace(str(bench.disk.folder), "DISK")
    return Found(problems + _let_to_end(bench, stage, words), f'once, "{where.strip()}"')


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as a table in markdown, one stage a line."""
    faults = ("killed", "disk full", "disk read-only")
    by_stage: dict[str, dict[str, Row]] = {}
    for row in rows:
        stage, _, fault = row.name.partition(", ")
        by_stage.setdefault(stage, {})[fault] = row
    lines = [
        [stage, *(_cell(own.get(fault)) for fault in faults), str(round(sum(row.ours or 0 for row in own.values())))]
        for stage, own in by_stage.items()
    ]
    with atomic_text(path) as handle:
        handle.write(markdown_table(["stage", *faults, "problems"], lines, num_texts=4) + "\n")


def _cell(row: Row | None) -> str:
    return "–" if row is None else row.note


def _row(name: str, found: Found) -> Row:
    shown = "; ".join(list(dict.fromkeys(found.problems))[:NUM_SHOWN])
    return Row(name, float(len(found.problems)), None, None, "problems", f"{found.note}{'; ' if shown else ''}{shown}")


def _let_to_end(bench: Bench, stage: Stage, words: Sequence[str]) -> list[str]:
    """Run a disturbed stage to its end, and return what differs from the undisturbed one."""
    ended = bench.run(stage, words)
    return _failed(stage, ended) + differences(bench.after / stage.name, bench.disk.folder)


def _failed(stage: Stage, ended: Ended) -> list[str]:
    return [] if ended.code == 0 else [f"the same command ends with {ended.code}: {_tail(ended.output)}"]


def _one_sentence(stage: Stage, ended: Ended) -> list[str]:
    """Return what is wrong with the end of a command that cannot write."""
    lines = [line for line in ended.output.splitlines() if "error: " in line]
    said = [line for line in lines if any(words in line for words in SENTENCES)]
    problems = [] if said else [f"no sentence about the disk: {_tail(ended.output)}"]
    if stage.own_code and ended.code != 2:
        problems.append(f"exit code {ended.code}")
    if stage.own_code and "Traceback" in ended.output:
        problems.append(f"a traceback: {_tail(ended.output)}")
    return problems


def _tail(output: str) -> str:
    return " / ".join(output.strip().splitlines()[-2:])[-300:]


def _environment(extensions: Path) -> dict[str, str]:
    paths = os.pathsep.join([str(resource_folder("recipes").parent), os.environ.get("PYTHONPATH", "")])
    own = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": paths, "TMPDIR": tempfile.gettempdir()}
    return {**step_environment(1), **own, "TORCH_EXTENSIONS_DIR": str(extensions)}


if __name__ == "__main__":
    run_command(main, Settings)
