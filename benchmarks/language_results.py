"""Scores, intervals and paired differences of the variants on real sentences, as a file and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.language_model import LICENCE
from semcore.data.run_folder import RunFolder
from semcore.evaluation.metrics import CUTOFFS
from semcore.evaluation.statistics import bootstrap_interval, hits
from semcore.runtime.files import atomic_text, read_json, write_json
from semcore.runtime.hardware import describe_measurement

PAPER, DENSE = "paper", "all-MiniLM-L6-v2, no training"

Ranks = Sequence[int | None]
Figures = dict[str, dict[str, float]]


def write_results(
    json_file: Path,
    table: Path | None,
    labels: Mapping[str, str],
    done: Mapping[str, dict[str, Any]],
    *,
    runs: Mapping[str, Path],
    relevant: Mapping[str, set[str]],
    dense: Ranks,
    sizes: Mapping[str, int],
) -> None:
    """Write what was measured, and which variants were not run.

    Args:
        json_file: the results.
        table: the same in markdown.
        labels: variant -> what it is, of all variants.
        done: variant -> its ranks.json.
        runs: variant -> its run folder, of all whose identifiers are made.
        relevant: query -> the right items; queries of one item are drawn together.
        dense: the sentence encoder's ranks, in the order of the queries' names.
        sizes: of the dataset.
    """
    groups = [min(relevant[query]) for query in sorted(relevant)]
    reference = done[PAPER]["ranks"] if PAPER in done else {}
    variants = {
        name: {
            "label": labels[name],
            "rankings": {
                ranking: {"scores": scores(ranks, groups), **_difference(reference.get(ranking), ranks, groups)}
                for ranking, ranks in own["ranks"].items()
            },
            **{key: own[key] for key in ("prior_weight", "prior_sd", "seconds_a_query")},
            "train_seconds": round(RunFolder(runs[name]).manifest()["stages"]["train_identifier"]["seconds"]),
        }
        for name, own in done.items()
    }
    first = next(iter(reference.values()), None)
    results = {
        "model": "Gemma 3 270M (GGUF, Q4_K_M, unpacked), LoRA",
        "licence": LICENCE,
        "sizes": dict(sizes),
        "variants": variants,
        "dense": {"label": DENSE, "scores": scores(dense, groups), **_difference(first, dense, groups)},
        "identifiers": {name: {"label": labels[name], **_said(run)} for name, run in runs.items()},
        "not_run": [name for name in labels if name not in done],
        **describe_measurement(),
    }
    write_json(json_file, results)
    if table is not None:
        with atomic_text(table) as handle:
            handle.write(render(results, labels))


def scores(ranks: Ranks, groups: Sequence[str]) -> Figures:
    """Return R@K in percent with its 95 % interval over images."""
    figures = {}
    for cutoff in CUTOFFS:
        values = hits(ranks, cutoff)
        low, high = bootstrap_interval(values, groups=groups)
        figures[f"R@{cutoff}"] = {
            "value": round(float(values.mean()), 1), "low": round(low, 1), "high": round(high, 1)
        }  # fmt: skip
    return figures


def _difference(reference: Ranks | None, ranks: Ranks, groups: Sequence[str]) -> dict[str, Figures]:
    """Return how many points more than the paper's identifiers in the same ranking, with the paired interval."""
    if reference is None:
        return {}
    figures = {}
    for cutoff in CUTOFFS:
        values = hits(ranks, cutoff) - hits(reference, cutoff)
        low, high = bootstrap_interval(values, groups=groups)
        figures[f"R@{cutoff}"] = {
            "value": round(float(np.mean(values)), 1), "low": round(low, 1), "high": round(high, 1)
        }  # fmt: skip
    return {"more_than_paper": figures}


def _said(run: Path) -> dict[str, Any]:
    """Return what the identifiers of the test split are like, and how much of them its sentences say."""
    report = read_json(run / "identifiers" / "report.json")
    quality, mentions = report["t2i"]["test"], report["mentions"]["test"]
    return {
        "percent_said_by_depth": mentions["percent_by_depth"],
        "words_said_a_sentence": mentions["words_per_sentence"],
        **{key: quality[key] for key in ("num_identifiers", "num_shared_items", "alone_percent", "bigram_entropy")},
    }


def render(results: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Return the results as a page of markdown."""
    sizes = results["sizes"]
    lines = [
        "# Real sentences", "",
        f"Text → image on COCO captions without pictures, {results['model']} ({results['licence']}). "
        f"{sizes['train']} training images with {sizes['train_queries']} queries, {sizes['test']} items searched "
        f"with as many queries; the prior averaged over {sizes['prior_queries']} training queries, its weight fitted "
        f"on {sizes['val']} queries of val. Brackets: 95 % bootstrap over images; differences are paired.", "",
        "| identifiers | ranking | R@1 | R@5 | R@10 | R@1 less the paper's | R@10 less the paper's | prior's weight |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for own in results["variants"].values():
        for ranking, figures in own["rankings"].items():
            weight = own["prior_weight"] if ranking.endswith("prior off") else "–"
            lines.append(_line(own["label"], ranking, figures, str(weight)))
    lines.append(_line(results["dense"]["label"], "cosine", results["dense"], "–"))
    lines += _said_lines(results["identifiers"])
    if results["not_run"]:
        lines += ["", "Not run: " + "; ".join(labels[name] for name in results["not_run"]) + "."]
    return "\n".join(lines) + "\n"


def _said_lines(identifiers: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return the table of what test sentences say of the identifiers, before any training."""
    return [
        "", "How many percent of the test sentences say the first keywords of their image:", "",
        "| identifiers | 1st | 2nd | 3rd | 4th | said a sentence | items that share theirs |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {own['label']} | "
            + " | ".join(str(own["percent_said_by_depth"].get(depth, "–")) for depth in "1234")
            + f" | {own['words_said_a_sentence']} | {own['num_shared_items']} |"
            for own in identifiers.values()
        ),
    ]  # fmt: skip


def _line(label: str, ranking: str, figures: Mapping[str, Figures], weight: str) -> str:
    recalls = [_figure(figures["scores"][f"R@{cutoff}"]) for cutoff in CUTOFFS]
    more = figures.get("more_than_paper")
    differences = [_figure(more[name], "+") if more else "–" for name in ("R@1", "R@10")]
    return f"| {' | '.join([label, ranking, *recalls, *differences, weight])} |"


def _figure(figure: Mapping[str, float], sign: str = "") -> str:
    return f"{figure['value']:{sign}.1f} [{figure['low']:{sign}.1f}, {figure['high']:{sign}.1f}]"
