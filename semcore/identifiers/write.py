"""Writer of RUN/identifiers: rows, new tokens, what later items need, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from semcore.data.caption_files import Captions
from semcore.data.directions import Direction
from semcore.data.identifier_files import CLUSTER_WORDS, cluster_token
from semcore.data.identifier_tokens import cluster_tokens, write_tokens
from semcore.identifiers.clusters import CENTROIDS, save_centroids
from semcore.identifiers.mention_rates import unknown_rate, write_mention_rates
from semcore.identifiers.quality import items_without_keyword, measure_quality
from semcore.identifiers.quality_report import render_report
from semcore.identifiers.scheme import Identifiers
from semcore.identifiers.structured import StructuredIdentifiers
from semcore.runtime.files import atomic_text, write_bytes, write_json, write_jsonl


def write_identifiers(
    folder: Path,
    identifiers: Identifiers,
    captions: Captions,
    about: Mapping[str, Any],
    oracle: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Write the rows, what belongs to them and the report, and return the content of report.json.

    Args:
        folder: RUN/identifiers.
        identifiers: what was made.
        captions: what it was made from.
        about: how, for the report: protocol, encoder, seed, scheme, global_id and the settings that the scheme reads.
        oracle: what a perfect reader would find, from `measure_oracle`.
    """
    rows = {Direction.T2I: identifiers.t2i, Direction.I2T: identifiers.i2t}
    for direction, items in rows.items():
        write_jsonl(folder / f"{direction}.jsonl", items)
    own = _write_structured(folder, identifiers.structured, about) if identifiers.structured else {}
    if identifiers.structured is None:
        _write_others(folder, identifiers)
    num_clusters = own.get("num_used", len(identifiers.arrays.get(CENTROIDS, {}).get("centroids", ())))
    report = {
        **about,
        **own.get("fitted", {}),
        "captions": {
            "num_images": len(captions.items) + len(captions.missing),
            "num_captioned": len(captions.items),
            "missing": captions.missing,
            "num_unknown": captions.num_unknown,
        },
        **{direction.value: measure_quality(items, num_clusters) for direction, items in rows.items()},
        **own.get("mentions", {}),
        "without_keyword": {direction: items_without_keyword(items) for direction, items in rows.items()},
        **own.get("clusters", {}),
        **({"codes": dict(identifiers.figures)} if identifiers.figures else {}),
        "oracle": dict(oracle),
    }
    with atomic_text(folder / "report.md") as handle:
        handle.write(render_report(report, rows, _introduction(identifiers, report)))
    write_json(folder / "report.json", report)
    return report


def _introduction(identifiers: Identifiers, report: Mapping[str, Any]) -> str:
    text = identifiers.introduction(report)
    return text if report["global_id"] else f"{text} The clusters are **left out** of the identifiers."


def _write_structured(folder: Path, made: StructuredIdentifiers, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write clusters and mention rates, and return their part of the report, and the number of clusters in use."""
    save_centroids(folder, made.centroids)
    write_mention_rates(folder, made.mention_counts)
    clusters = _describe_clusters(made)
    used = clusters if about["global_id"] else []
    write_json(folder / CLUSTER_WORDS, {"encoder": about["encoder"], "clusters": used})
    return {
        "num_used": len(used),
        "fitted": {"num_clusters": len(clusters), "num_fitted": sum(made.num_fitted)},
        "mentions": {"mentions": made.mentions, "unknown_mention_rate": round(unknown_rate(made.mention_counts), 4)},
        "clusters": {"clusters": clusters},
    }


def _write_others(folder: Path, identifiers: Identifiers) -> None:
    """Write the new tokens, none if there are none, and the scheme's own files."""
    write_tokens(folder, identifiers.tokens or cluster_tokens([]))
    for name, arrays in identifiers.arrays.items():
        write_bytes(folder / name, save({key: np.array(value) for key, value in arrays.items()}))
    for name, content in identifiers.settings.items():
        write_json(folder / name, content)


def _describe_clusters(identifiers: StructuredIdentifiers) -> list[dict[str, Any]]:
    return [
        {
            "token": cluster_token(index),
            "num_fitted": num_fitted,
            "words": [word for word, _ in words],
            "weights": [weight for _, weight in words],
        }
        for index, (words, num_fitted) in enumerate(zip(identifiers.cluster_words, identifiers.num_fitted, strict=True))
    ]
