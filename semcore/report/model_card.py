"""The README.md of a trained checkpoint: what it is, how it was made, how good it is, what it cannot do."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from semcore import __version__
from semcore.report.rendering import Markdown, markdown_template
from semcore.report.tables import flat
from semcore.runtime.files import atomic_text

_METRICS = {"R@1": "recall_at_1", "R@5": "recall_at_5", "R@10": "recall_at_10", "MRR@10": "mrr_at_10"}
_TASKS = {"t2i": "text to image retrieval", "i2t": "image to text retrieval"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def retrieval_results(
    scores: Mapping[str, Mapping[str, float]], dataset: str, split: str | None = None
) -> list[EvalResult]:
    """Turn the scores of both directions into a model card's results.

    Args:
        scores: direction -> the recalls and MRR@10 of `retrieval_metrics`.
        dataset: The name of the dataset they were measured on.
        split: The split of it.
    """
    return [
        EvalResult(
            task_type="information-retrieval",
            task_name=_TASKS[direction],
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
    """Write a model card as text; every given text is shown as it is, never read as markup.

    Args:
        name: The name of the checkpoint.
        summary: What the checkpoint does, in a sentence or two.
        base_model: The hub id or folder it was trained from, None for random weights.
        dataset: What it was trained on.
        usage: The command or code that uses it.
        training: Settings and measures of the training; nested mappings are flattened.
        results: Scores for the table and for the hub, see `retrieval_results`.
        limits: What it cannot do, a sentence each.
        licence: The licence's id on the hub, "apache-2.0" say.
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
    """Write a rendered card as the checkpoint's README.md, in place of any other, and return its path."""
    path = folder / "README.md"
    with atomic_text(path) as handle:
        handle.write(text)
    return path


def _is_on_hub(base_model: str) -> bool:
    """Tell a hub id from a folder as transformers does: a folder that is there comes first."""
    return _HUB_ID.fullmatch(base_model) is not None and not Path(base_model).exists()
