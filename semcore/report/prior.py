"""The report's sentences on what is beside log p(identifier | query) in the generator's score: prior and guide."""

from collections.abc import Mapping
from typing import Any

WITHOUT_PRIOR = (
    "what constrained beam search found, in the order of its score less a share of log p(identifier), the identifier's "
    "prior; ours, and what later stages use"
)


GUIDES = {
    "words": "keywords that occur in the query",
    "dense": "the cosine of the query's and the item's vectors",
    "set": "the generator's set head",
}


def guide_finding(metrics: Mapping[str, Any], direction: str) -> str:
    """Say what guided the search and how, or that its weight was fitted as 0; empty where nothing did."""
    guide = metrics.get("guide")
    if not guide:
        return ""
    weight, fitted = guide["weights"].get(direction, 0.0), guide["validation"].get(direction)
    source = "fitted on val" if fitted else "as given"
    if weight == 0:
        return f"The guide, {GUIDES[guide['kind']]}, has weight 0, {source}: it says nothing that the model does not."
    text = (
        f"The search is guided by {GUIDES[guide['kind']]} with weight {weight:g}, {source} ({guide['mode']}); the "
        "paper has no guide"
    )
    if not fitted:
        return f"{text}."
    plain, guided = (fitted[name]["R@1"] for name in ("0", f"{weight:g}"))
    return f"{text}. On val it moves R@1 from {plain:.1f} to {guided:.1f}."


def prior_finding(metrics: Mapping[str, Any], direction: str) -> str:
    """Say how much of the prior came off, what that did to the generator's order, and which order counts."""
    prior, scores = metrics["prior"], metrics[direction]
    weight = prior["weights"].get(direction)
    if weight is None:
        return "Nothing was fitted on val, so that the identifiers' prior is left in: the score is the paper's."
    source = "fitted on val" if prior["choice"] == "fit" else "as given"
    change = scores["generated_less_paper"]["R@1"]
    return (
        f"The generator's score is log p(identifier | query) less {weight:.2f} log p(identifier), {source}; the paper "
        f"has no such term. It moves R@1 from {scores['generated_paper']['R@1']:.1f} to "
        f"{scores['generated']['R@1']:.1f} ({change['mean']:+.1f} points; 95 % interval of the paired difference "
        f"{change['low']:+.1f} to {change['high']:+.1f}). Later stages use this order."
    )
