"""Model cards of a run: in the folder of every trained model, with its scores after the evaluation."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from semcore import __version__
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.models.lineage import trained_directions
from semcore.report.rendering import Markdown, markdown_template
from semcore.report.tables import flat
from semcore.runtime.files import atomic_text, read_json
from semcore.runtime.ranks import is_main_process

MEASURES = ("engine", "zero_stage", "num_processes", "steps", "loss_first", "loss_last", "seconds", "peak_memory_bytes")


class _Kind(NamedTuple):
    folder: str
    verifier: str | None
    """The verifier whose scores the card reports; None for the generator's."""
    summary: str
    usage: str
    limit: str


_CHOOSES = (
    "Chooses, among labelled candidates with their keywords, the one that matches a query (SemCORE, section 3.3)."
)
_TEN = "It chooses among ten candidates at most, which another model has to find."
CARD = "README.md"
KINDS = {
    "train_identifier": _Kind(
        "identifier_model",
        None,
        "Writes the identifier, a cluster and keywords, of what matches a query (SemCORE, section 3.4).",
        'semcore search --run RUN "a text query"',
        "Its identifiers are those of the run it was trained in; elsewhere they mean nothing.",
    ),
    "train_ranking": _Kind(
        "ranked_model",
        None,
        "Writes the identifier of what matches a query, trained to rank it before those that its search finds.",
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


def write_model_cards(run: RunFolder, dataset: str, *, edited: bool = True) -> list[Path]:
    """Write or renew the card of every model that a run has trained, in the main process only.

    A model that is linked from another run, as a study's variants share theirs, keeps that run's card.

    Args:
        run: the run folder.
        dataset: the name of the dataset of training and evaluation.
        edited: also in place of one that somebody may have edited; False for those that are missing or lack the scores.

    Returns:
        The paths of the cards that were written.
    """
    if not is_main_process():
        return []
    stages = run.manifest().get("stages", {})
    metrics = read_json(run / "metrics.json") if (run / "metrics.json").exists() else {}
    trained = {name: kind for name, kind in KINDS.items() if stages.get(name, {}).get("finished")}
    cards = []
    for name, kind in trained.items():
        folder = run / kind.folder
        if not folder.is_dir() or folder.is_symlink():
            continue
        text, present = _card(kind, folder, stages, name, dataset, metrics), _present(folder)
        lacks_scores = present in (None, _card(kind, folder, stages, name, dataset, {}))
        if edited or (lacks_scores and present != text):
            cards.append(write_model_card(folder, text))
    return cards


def _present(folder: Path) -> str | None:
    path = folder / CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else None


def _card(
    kind: _Kind, folder: Path, stages: Mapping[str, Any], name: str, dataset: str, metrics: Mapping[str, Any]
) -> str:
    stage = stages[name]
    settings = stage["settings"]
    model = settings.get("model", {"start": "identifier"})
    base = model.get("base") or stages["train_identifier"]["settings"]["model"]["base"]
    if model.get("start") == "identifier" and not model.get("base"):
        base = KINDS["train_identifier"].folder
    return render_model_card(
        name=kind.folder.replace("_", " "),
        summary=kind.summary,
        base_model=Path(base).name if Path(base).is_absolute() or Path(base).is_dir() else base,
        dataset=dataset,
        usage=kind.usage,
        training={
            "directions": ", ".join(trained_directions(folder)),
            **settings["training"],
            "lora": settings.get("lora"),
            **{key: stage.get(key) for key in MEASURES},
        },
        results=retrieval_results(_scores(kind, metrics), dataset, metrics.get("split")),
        limits=[kind.limit],
    )


def _scores(kind: _Kind, metrics: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    """Return direction -> scores, where they were measured; a verifier's are unfused."""
    if kind.verifier is not None:
        return metrics.get("verifiers_alone", {}).get(kind.verifier, {})
    return {direction: metrics[direction]["generated"] for direction in Direction if direction in metrics}


_METRICS = {"R@1": "recall_at_1", "R@5": "recall_at_5", "R@10": "recall_at_10", "MRR@10": "mrr_at_10"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def retrieval_results(
    scores: Mapping[str, Mapping[str, float]], dataset: str, split: str | None = None
) -> list[EvalResult]:
    """Turn the scores of both directions into a model card's results.

    Args:
        scores: direction -> the recalls and MRR@10 of `retrieval_metrics`.
        dataset: The name of the evaluated dataset.
        split: The evaluated split.
    """
    return [
        EvalResult(
            task_type="information-retrieval",
            task_name=f"{Direction(direction).words} retrieval",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type=kind,
            metric_name=metric,
            metric_value=round(direction_scores[metric], 4),
        )
        for direction, direction_scores in scores.items()
        for metric, kind in _METRICS.items()
    ]


def render_model_card(
    *,
    name: str,
    summary: str,
    base_model: str | None,
    dataset: str,
    usage: str,
    training: Mapping[str, object],
    results: Sequence[EvalResult] = (),
    limits: Sequence[str] = (),
    licence: str | None = None,
    tags: Sequence[str] = ("semcore", "generative-retrieval"),
) -> str:
    """Render a model card as text; all given texts are escaped, never read as markup.

    Args:
        name: The name of the checkpoint.
        summary: The checkpoint's purpose, in a sentence or two.
        base_model: The hub id or folder it was trained from, None for random weights.
        dataset: The name of its training data.
        usage: The command or code that uses it.
        training: Settings and measurements of the training; nested mappings are flattened.
        results: Scores for the table and for the hub, see `retrieval_results`.
        limits: Known limits, one sentence each.
        licence: The licence's id on the hub, such as "apache-2.0".
        tags: Tags on the hub.
    """
    card_data = ModelCardData(
        model_name=name,
        base_model=base_model if base_model and _is_on_hub(base_model) else None,
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        license=licence,
        tags=list(tags),
        eval_results=list(results) or None,
    )
    return markdown_template("model_card.md.jinja").render(
        card_data=Markdown(card_data.to_yaml()),
        name=name,
        summary=summary,
        base_model=base_model,
        dataset=dataset,
        usage=usage,
        training=flat(training),
        results=results,
        limits=limits,
        version=__version__,
    )


def write_model_card(folder: Path, text: str) -> Path:
    """Write a rendered card as the checkpoint's README.md, replacing any other, and return its path."""
    path = folder / CARD
    with atomic_text(path) as handle:
        handle.write(text)
    return path


def _is_on_hub(base_model: str) -> bool:
    """Return whether a name is a hub id; as in transformers, an existing folder has precedence."""
    return _HUB_ID.fullmatch(base_model) is not None and not Path(base_model).exists()
