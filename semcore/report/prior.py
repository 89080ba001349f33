"""The report's paragraph on the identifiers' prior, which comes off the generator's score."""

from collections.abc import Mapping
from typing import Any

WITHOUT_PRIOR = (
    "what constrained beam search found, in the order of its score less a share of log p(identifier), the identifier's "
    "prior; ours, and what later stages use"
)


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
