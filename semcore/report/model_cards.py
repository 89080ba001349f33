"""The model cards of a run: in the folder of every model that it has trained, with its scores once it is measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from semcore.data.run_folder import RunFolder
from semcore.report.model_card import render_model_card, retrieval_results, write_model_card
from semcore.runtime.files import read_json
from semcore.runtime.ranks import is_main_process

MEASURES = ("engine", "zero_stage", "num_processes", "steps", "loss_first", "loss_last", "seconds", "peak_memory_bytes")


class _Kind(NamedTuple):
    folder: str
    verifier: str | None
    """Whose scores are its own; None for those of the generator."""
    summary: str
    usage: str
    limit: str


_CHOOSES = (
    "Chooses, among labelled candidates with their keywords, the one that matches a query (SemCORE, section 3.3)."
)
_TEN = "It chooses among ten candidates at most, which another model has to find."
KINDS = {
    "train_identifier": _Kind(
        "identifier_model",
        None,
        "Writes the identifier, a cluster and keywords, of what matches a query (SemCORE, section 3.4).",
        'semcore search --run RUN "a text query"',
        "Its identifiers are those of the run it was trained in; elsewhere they mean nothing.",
    ),
    "train_verifier": _Kind("verifier_model", "listwise", _CHOOSES, "semcore evaluate --run RUN", _TEN),
    "train_verifier_blocks": _Kind(
        "verifier_model_blocks",
        "blocks",
        f"{_CHOOSES} It reads every candidate by itself.",
        "semcore evaluate --run RUN --verifier blocks",
        _TEN,
    ),
}


def write_model_cards(run: RunFolder, dataset: str) -> list[Path]:
    """Write or renew the card of every model that a run has trained, in the main process only.

    Args:
        run: the run folder.
        dataset: the name of what was trained and measured on.

    Returns:
        The paths of the cards.
    """
    if not is_main_process():
        return []
    stages = run.manifest().get("stages", {})
    metrics = read_json(run / "metrics.json") if (run / "metrics.json").exists() else {}
    trained = {name: kind for name, kind in KINDS.items() if stages.get(name, {}).get("finished")}
    return [
        write_model_card(run / kind.folder, _card(kind, stages, name, dataset, metrics))
        for name, kind in trained.items()
        if (run / kind.folder).is_dir()
    ]


def _card(kind: _Kind, stages: Mapping[str, Any], name: str, dataset: str, metrics: Mapping[str, Any]) -> str:
    stage = stages[name]
    settings = stage["settings"]
    base = settings["model"].get("base") or stages["train_identifier"]["settings"]["model"]["base"]
    if settings["model"].get("start") == "identifier" and not settings["model"].get("base"):
        base = KINDS["train_identifier"].folder
    return render_model_card(
        name=kind.folder.replace("_", " "),
        summary=kind.summary,
        base_model=Path(base).name if Path(base).is_absolute() or Path(base).is_dir() else base,
        dataset=dataset,
        usage=kind.usage,
        training={**settings["training"], "lora": settings["lora"], **{key: stage.get(key) for key in MEASURES}},
        results=retrieval_results(_scores(kind, metrics), dataset, metrics.get("split")),
        limits=[kind.limit],
    )


def _scores(kind: _Kind, metrics: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    """Return direction -> scores, where they were measured; a verifier's are its own, without the generator's."""
    if kind.verifier is not None:
        return metrics.get("verifiers_alone", {}).get(kind.verifier, {})
    return {direction: metrics[direction]["generated"] for direction in ("t2i", "i2t") if direction in metrics}
