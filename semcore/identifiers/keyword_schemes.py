"""Schemes with keywords: the paper's structured identifiers, and its ablation with numbers (sections 3.2 and 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from semcore.identifiers.ablation_schemes import with_numbers
from semcore.identifiers.mention_rates import CANDIDATES_PER_KEYWORD
from semcore.identifiers.scheme import Identifiers, SchemeInputs
from semcore.identifiers.structured import StructuredIdentifiers

_CRITERIA = {"similarity": "similar", "mention_rate": "mentioned"}


def make_structured(inputs: SchemeInputs) -> Identifiers:
    """Give every item its cluster and keywords."""
    return _identifiers(inputs.structured(), introduce_keywords)


def make_numeric(inputs: SchemeInputs) -> Identifiers:
    """Give every item its cluster and a random number that no other has."""

    def introduce(report: Mapping[str, Any]) -> str:
        return f"{introduce_keywords(report)} A **unique number** stands in place of an item's keywords."

    return _identifiers(with_numbers(inputs.structured(), inputs.seed), introduce)


def introduce_keywords(report: Mapping[str, Any]) -> str:
    """Return what report.json says of clusters and keywords, in sentences."""
    which = "the training split's captions" if report["protocol"] == "inductive" else "the captions of **all** splits"
    return (
        f"{report['num_clusters']} clusters fitted on {which} ({report['num_fitted']}), protocol "
        f"**{report['protocol']}**; every other item has the cluster of the nearest centroid. "
        f"Up to {report['num_keywords']} keywords an item{_selection(report)}, "
        f"the most {_CRITERIA[report['keyword_order']]} first; sentence encoder {report['encoder']}, "
        f"seed {report['seed']}."
    )


def _identifiers(made: StructuredIdentifiers, introduction: Callable[[Mapping[str, Any]], str]) -> Identifiers:
    return Identifiers(made.t2i, made.i2t, introduction, structured=made)


def _selection(report: Mapping[str, Any]) -> str:
    """Name the method of choosing keywords, where it is not similarity alone."""
    if report["keyword_choice"] == "mention_rate":
        return f", the most mentioned of the {CANDIDATES_PER_KEYWORD * report['num_keywords']} most similar"
    if report["diversity"] is not None:
        return f", by KeyBERT's maximal marginal relevance with diversity {report['diversity']:g}"
    if report["nr_candidates"] is not None:
        return f", by KeyBERT's max-sum distance among {report['nr_candidates']}"
    return ""
