"""Lineage of a model: the inputs of its training, compared with those it is used with.

A training writes beside its model

    prompts.json    sha256 of the prompts that it was trained with
    base.json       under an adapter: fingerprint of the base (`semcore.models.adapters`)
    lineage.json    directions that it was trained for; digests of their identifiers and of the dataset; sha256 of
                    tokenizer and image processor files

and every command that loads a model calls `check_lineage`. Content is compared, never a path.

Identifiers and dataset are compared row by row and split by split: the rows of the training must still be there, in
their order, which decides between items that share an identifier. Rows that were added later at the end of their split
are no mismatch: a corpus grows, and the model generates identifiers that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction, named_directions
from semcore.data.row_digests import dataset_rows, digests, identifier_rows, total
from semcore.data.run_folder import RunFolder
from semcore.models.adapters import find_base, is_adapter, read_note
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, sha256_of, write_json
from semcore.runtime.fingerprints import file_fingerprint, fingerprint

Kind = Literal["prompts", "identifiers", "data", "base", "tokenizer", "preprocessing", "captioner", "evaluation"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ALLOWED = "allowed_mismatches"
LINEAGE, PROMPTS = "lineage.json", "prompts.json"
FILES: dict[Kind, tuple[str, ...]] = {
    "tokenizer": (
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "merges.txt", "tokenizer.model", "chat_template.jinja",
    ),
    "preprocessing": ("preprocessor_config.json", "processor_config.json"),
}  # fmt: skip
FLAGS: dict[Kind, str] = {"base": "--base FOLDER", "captioner": "--base FOLDER", "data": "--data DATA"}
"""Flags that give the right path."""
SHOWN = 12  # characters of a hash in a sentence


class Mismatch(NamedTuple):
    """One difference between a model's lineage and its present use.

    Attributes:
        model: the model.
        kind: the name to give to --allow-mismatch.
        subject: description of what differs.
        made_with: hash of the content in training, "" where it was not recorded.
        found: hash of the content now, "" where it is missing.
    """

    model: str
    kind: Kind
    subject: str
    made_with: str
    found: str

    def __str__(self) -> str:
        if not self.made_with:
            return f"{self.model} does not say which {self.kind} it was made with"
        return f"{self.subject} is {self.found[:SHOWN] or 'gone'}, {self.model} was made with {self.made_with[:SHOWN]}"


@dataclass(frozen=True)
class Surroundings:
    """The inputs that a model is used with; those left out do not matter for the use.

    Attributes:
        prompts: file name -> sha256 of the prompts in use.
        run: the run folder with the identifiers.
        dataset: the dataset that is searched.
        base: the present path of an adapter's base, if it has moved.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    run: RunFolder | None = None
    dataset: Dataset | None = None
    base: str | Path | None = None


def made_from(
    run: RunFolder,
    dataset: Dataset,
    allowed: Iterable[Mismatch] = (),
    directions: Collection[Direction] = tuple(Direction),
) -> dict[str, Any]:
    """Return what a training notes of its directions, of the run's identifiers and dataset, and of what may differ."""
    identifiers = {
        f"{direction}.jsonl": {
            "sha256": file_fingerprint(run / "identifiers" / f"{direction}.jsonl"),
            "splits": digests(identifier_rows(run, direction)),
        }
        for direction in directions
    }
    data = {"sha256": dataset.fingerprint, "splits": digests(dataset_rows(dataset))}
    return {"directions": list(directions), "identifiers": identifiers, "data": data, **as_record(allowed)}


def trained_directions(model: str | Path) -> tuple[Direction, ...]:
    """Return the directions that a model was trained for; both where nothing is recorded, of a hub id say."""
    path = Path(model) / LINEAGE
    return named_directions((read_json(path) if path.exists() else {}).get("directions", tuple(Direction)))


def directions_in_use(asked: Collection[str] | None, model: str | Path) -> tuple[Direction, ...]:
    """Return the directions that are asked for, those that a model was trained for by default."""
    return trained_directions(model) if asked is None else named_directions(asked)


def require_directions(model: str | Path, directions: Collection[Direction]) -> None:
    """Check that a model was trained for some directions.

    Raises:
        UserError: it was trained for another one only.
    """
    trained = trained_directions(model)
    if missing := [direction for direction in directions if direction not in trained]:
        raise UserError(
            f"{model} was trained for {trained[0].words} ({trained[0]}) only, not for {missing[0].words} "
            f"({missing[0]}): ask for {trained[0]} alone, or train it with --directions [{','.join(Direction)}]"
        )


def write_lineage(folder: Path, record: Mapping[str, Any]) -> None:
    """Write lineage.json beside a model whose other files exist.

    Args:
        folder: the model's folder.
        record: from `made_from`, {} for a model that was trained without a run.
    """
    write_json(folder / LINEAGE, {**record, **{kind: _file_hashes(folder, kind) for kind in FILES}})


def renew_lineage(folder: Path, allowed: Sequence[Mismatch]) -> None:
    """Rewrite lineage.json for a model whose files were saved again, with the allowed mismatches."""
    record = read_json(folder / LINEAGE) if (folder / LINEAGE).exists() else {}
    if record or allowed:
        write_lineage(folder, {**record, **as_record(allowed)})


def as_record(allowed: Iterable[Mismatch]) -> dict[str, list[dict[str, str]]]:
    """Return the record of allowed mismatches for manifest.json and metrics.json; {} where there are none."""
    rows = [mismatch._asdict() for mismatch in dict.fromkeys(allowed)]
    return {ALLOWED: rows} if rows else {}


def check_lineage(
    model: str | Path, here: Surroundings, allow: Collection[str] = (), *, must_say: bool = True
) -> list[Mismatch]:
    """Compare a model's recorded lineage with the inputs it is used with.

    Args:
        model: its folder, or a hub id, which has no record.
        here: the inputs it is used with.
        allow: kinds of mismatch that are allowed.
        must_say: the model was trained here, so that a missing record is a mismatch too. For other checkpoints only
            what is recorded is compared, and for adapters always the base.

    Returns:
        The mismatches that are allowed.

    Raises:
        UserError: there are others; names all of them, and what to type.
    """
    return refuse_others(find_mismatches(Path(model), here, must_say=must_say), allow)


def find_changes_since_fitting(run: RunFolder, models: Mapping[str, str], prompts: Mapping[str, str]) -> list[Mismatch]:
    """Return the changes in models and prompts since the fusions in verification.json were fitted.

    Args:
        run: the evaluated run; without an evaluation there is nothing to compare.
        models: "generator" and verifiers -> their paths.
        prompts: file name -> sha256 of the prompts in use.
    """
    known = run.manifest().get("stages", {}).get("evaluate", {}).get("inputs", {})
    now = {f"the {name} model": fingerprint(place) for name, place in models.items()} if known else {}
    return [
        Mismatch(
            str(run / "verification.json"), "evaluation", name if name in now else f"the prompt {name}",
            known[name], found,
        )
        for name, found in {**now, **prompts}.items()
        if name in known and known[name] != found
    ]  # fmt: skip


def refuse_others(mismatches: Sequence[Mismatch], allow: Collection[str]) -> list[Mismatch]:
    """Return mismatches if all their kinds are allowed; errors as `check_lineage`, and for an unknown kind."""
    unknown = [name for name in allow if name not in KINDS]
    if unknown:
        raise UserError(f"--allow-mismatch takes {', '.join(KINDS)}, with commas between; found {unknown[0]!r}")
    refused = [mismatch for mismatch in mismatches if mismatch.kind not in allow]
    if refused:
        kinds = [kind for kind in KINDS if kind in {*allow, *(mismatch.kind for mismatch in refused)}]
        raise UserError(
            f"{'; '.join(dict.fromkeys(map(str, refused)))}; {_ways_back(refused)}make it again with what is here, "
            f"or go on with --allow-mismatch {','.join(kinds)}"
        )
    return list(mismatches)


def _ways_back(refused: Sequence[Mismatch]) -> str:
    """Return the sentence on how to restore the recorded content, "" where none is recorded."""
    recorded = [mismatch.kind for mismatch in refused if mismatch.made_with]
    flags = dict.fromkeys(FLAGS[kind] for kind in recorded if kind in FLAGS)
    where = f"say with {' and '.join(flags)} where the right one is, " if flags else ""
    return f"{where}put back what it was made with, " if recorded else ""


def find_mismatches(
    model: Path, here: Surroundings, kinds: Collection[Kind] = KINDS, *, must_say: bool
) -> list[Mismatch]:
    """Return all mismatches of these kinds; other arguments as in `check_lineage`."""
    if not model.is_dir():
        return []
    record = read_json(model / LINEAGE) if (model / LINEAGE).exists() else {}
    pairs = [*_prompts(model, here, must_say), *_rows(record, here, must_say), *_files(model, record, must_say)]
    if is_adapter(model) and "base" in kinds:
        place = find_base(model, here.base)
        pairs.append(("base", f"the base {place}", read_note(model).fingerprint, fingerprint(place)))
    return [Mismatch(str(model), *pair) for pair in pairs if pair[2] != pair[3] and pair[0] in kinds]


_Pair = tuple[Kind, str, str, str]
"""Kind, subject, content in training, content now."""


def _prompts(model: Path, here: Surroundings, must_say: bool) -> Iterable[_Pair]:
    known = read_json(model / PROMPTS) if (model / PROMPTS).exists() else {}
    for name, sha256 in here.prompts.items():
        if must_say or name in known:
            yield "prompts", f"the prompt {name}", known.get(name, ""), sha256


def _rows(record: Mapping[str, Any], here: Surroundings, must_say: bool) -> Iterable[_Pair]:
    if here.run is not None and (must_say or "identifiers" in record):
        for direction in named_directions(record.get("directions", tuple(Direction))):
            name = f"{direction}.jsonl"
            path = here.run / "identifiers" / name
            known = record.get("identifiers", {}).get(name, {})
            rows = identifier_rows(here.run, direction) if known.get("sha256") != file_fingerprint(path) else None
            yield from _compare_rows("identifiers", str(path), known, rows)
    if here.dataset is not None and (must_say or "data" in record):
        known = record.get("data", {})
        rows = dataset_rows(here.dataset) if known.get("sha256") != here.dataset.fingerprint else None
        yield from _compare_rows("data", str(here.dataset.folder), known, rows)


def _files(model: Path, record: Mapping[str, Any], must_say: bool) -> Iterable[_Pair]:
    for kind in FILES:
        if must_say or kind in record:
            known, found = record.get(kind, {}), _file_hashes(model, kind)
            for name in {**known, **found}:
                yield kind, name, known.get(name, ""), found.get(name, "")


def _compare_rows(
    kind: Kind, subject: str, known: Mapping[str, Any], rows: Iterable[tuple[str, Any]] | None
) -> Iterable[_Pair]:
    """Compare the recorded rows, split by split; `rows` is None where the whole file is unchanged."""
    if rows is None:
        return
    if not known:
        yield kind, subject, "", total(digests(rows))
        return
    splits = known["splits"]
    found = digests(rows, {split: digest["num_rows"] for split, digest in splits.items()})
    for split, digest in splits.items():
        now = found.get(split, {"num_rows": 0, "sha256": ""})
        count = f"({now['num_rows']} of its {digest['num_rows']} rows of the split {split})"
        yield kind, f"{subject} {count}", digest["sha256"], now["sha256"]


def _file_hashes(folder: Path, kind: Kind) -> dict[str, str]:
    return {name: sha256_of(folder / name) for name in FILES[kind] if (folder / name).is_file()}
