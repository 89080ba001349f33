"""Writer of RUN/identifiers: rows, clusters and report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semcore.data.caption_files import Captions
from semcore.data.directions import Direction
from semcore.data.identifier_files import CLUSTER_WORDS, cluster_token
from semcore.identifiers.clusters import save_centroids
from semcore.identifiers.mention_rates import unknown_rate, write_mention_rates
from semcore.identifiers.quality import items_without_keyword, measure_quality
from semcore.identifiers.quality_report import render_report
from semcore.identifiers.structured import StructuredIdentifiers
from semcore.runtime.files import atomic_text, write_json, write_jsonl


def write_identifiers(
    folder: Path, identifiers: StructuredIdentifiers, captions: Captions, about: dict[str, Any]
) -> dict[str, Any]:
    """Write the rows, the clusters and the report, and return the content of report.json.

    Args:
        folder: RUN/identifiers.
        identifiers: what was made.
        captions: what it was made from.
        about: how, for the report: protocol, encoder, seed, scheme, global_id, num_keywords, deduplicate,
            keyword_method, diversity, nr_candidates, ngram_range, keyword_choice, keyword_order.
    """
    rows = {Direction.T2I: identifiers.t2i, Direction.I2T: identifiers.i2t}
    for direction, items in rows.items():
        write_jsonl(folder / f"{direction}.jsonl", items)
    save_centroids(folder, identifiers.centroids)
    write_mention_rates(folder, identifiers.mention_counts)
    clusters = _describe_clusters(identifiers)
    used = clusters if about["global_id"] else []
    write_json(folder / CLUSTER_WORDS, {"encoder": about["encoder"], "clusters": used})
    report = {
        **about,
        "num_clusters": len(clusters),
        "num_fitted": sum(identifiers.num_fitted),
        "captions": {
            "num_images": len(captions.items) + len(captions.missing),
            "num_captioned": len(captions.items),
            "missing": captions.missing,
            "num_unknown": captions.num_unknown,
        },
        **{direction.value: measure_quality(items, len(used)) for direction, items in rows.items()},
        "mentions": identifiers.mentions,
        "unknown_mention_rate": round(unknown_rate(identifiers.mention_counts), 4),
        "without_keyword": {direction: items_without_keyword(items) for direction, items in rows.items()},
        "clusters": clusters,
    }
    with atomic_text(folder / "report.md") as handle:
        handle.write(render_report(report, rows))
    write_json(folder / "report.json", report)
    return report


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
