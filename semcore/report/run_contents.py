"""Contents of a run folder that a report needs, read and checked."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semcore.data.dataset import Dataset, load_dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.evaluation.per_query import FALSE_NEGATIVES, read_per_query
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_jsonl
from semcore.runtime.typed_commands import evaluate_anew

STAGES = ("generated", "generated_paper", "verified")


@dataclass(frozen=True)
class RunContents:
    """Contents of a run folder.

    Attributes:
        folder: The run folder.
        metrics: Content of metrics.json.
        manifest: Content of manifest.json.
        per_query: direction -> the rows of its per-query file.
        dataset: The dataset with sentences and images, None where it cannot be read.
        missing_dataset: Why `dataset` is None, empty otherwise.
        false_negatives: direction -> entries of the audit, the most confident first.
        identifiers: Content of identifiers/report.json, empty where there is none.
    """

    folder: Path
    metrics: dict[str, Any]
    manifest: dict[str, Any]
    per_query: dict[Direction, list[dict[str, Any]]]
    dataset: Dataset | None
    missing_dataset: str
    false_negatives: dict[Direction, list[dict[str, Any]]] = field(default_factory=dict)
    identifiers: dict[str, Any] = field(default_factory=dict)


def read_run(folder: Path, data: Path | None = None) -> RunContents:
    """Read an evaluated run.

    Args:
        folder: The run folder.
        data: Present path of the dataset; by default the one in the run's manifest.

    Raises:
        UserError: The run has not been evaluated, or its files are inconsistent.
    """
    metrics = _read_metrics(folder)
    per_query = {
        direction: _read_direction(folder, metrics, direction) for direction in Direction if direction in metrics
    }
    run = RunFolder(folder)
    dataset, missing = _read_dataset(run, data)
    audits = {direction: folder / direction / FALSE_NEGATIVES for direction in per_query}
    false_negatives = {direction: list(read_jsonl(path)) for direction, path in audits.items() if path.is_file()}
    quality = folder / "identifiers" / "report.json"
    identifiers = read_json(quality) if quality.is_file() else {}
    return RunContents(folder, metrics, run.manifest(), per_query, dataset, missing, false_negatives, identifiers)


def _read_metrics(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    command = evaluate_anew(folder)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file, so there is nothing to report; first run `{command}`")
    metrics = read_json(path)
    if not isinstance(metrics, dict) or not any(direction in metrics for direction in Direction):
        raise UserError(f"{path}: neither {' nor '.join(Direction)} is in it; write it anew with `{command}`")
    for direction in Direction:
        if direction in metrics and "R@1" not in metrics[direction].get("generated", {}):
            raise UserError(
                f"{path} does not have the generator's scores of {direction}: another version has written it; write it "
                f"anew with `{command}`"
            )
    return metrics


def _read_direction(folder: Path, metrics: dict[str, Any], direction: Direction) -> list[dict[str, Any]]:
    """Read the per-query file and compare it with the scores, so that no report mixes two evaluations."""
    path = folder / direction / "per_query.jsonl"
    rows = read_per_query(path)
    if not rows:
        raise UserError(f"{path} holds no query; write it anew with `{evaluate_anew(folder)}`")
    for stage in STAGES:
        if stage not in metrics[direction]:
            continue
        scores = metrics[direction][stage]
        if any(f"rank_{stage}" not in row for row in rows):
            raise UserError(
                f"{path} lacks the ranks of {stage}, which metrics.json has: they are of different versions; "
                f"write both anew with `{evaluate_anew(folder)}`"
            )
        right_first = sum(row[f"rank_{stage}"] == 1 for row in rows)
        if scores["num_queries"] != len(rows) or abs(scores["R@1"] - 100 * right_first / max(len(rows), 1)) > 1e-6:
            raise UserError(
                f"{path} and metrics.json come from different evaluations: {right_first} of {len(rows)} queries are "
                f"{stage} right there, R@1 is {scores['R@1']:.1f} of {scores['num_queries']} here; "
                f"write both anew with `{evaluate_anew(folder)}`"
            )
    return rows


def _read_dataset(run: RunFolder, data: Path | None) -> tuple[Dataset | None, str]:
    """Return the dataset, or None and the reason: a run may outlive its images, and the report then shows ids."""
    try:
        return load_dataset(data or run.data_folder()), ""
    except UserError as error:
        if data is not None:
            raise
        return None, str(error)
