"""Rendering of an explanation as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_OUTCOMES = {
    "found": "the best hit",
    "outranked": "verified, and behind the best hit",
    "not verified": "found, and behind the shortlist that is verified",
    "behind others": "kept by the beams to its end, where others have a better score",
}


def render_explanation(explanation: Mapping[str, Any]) -> str:
    """Return an explanation as lines of text.

    Args:
        explanation: from `semcore.retrieval.explanation.explain`.
    """
    item = explanation["item"]
    lines = [f"{item['item_id']}  {item['identifier']}"]
    if item["text"]:
        lines.append(f"  {item['text']}")
    lines += [_course(explanation), *_words(explanation), *_steps(explanation["steps"])]
    lines.append(_generator(explanation["generator"]))
    if explanation["verifier"] is not None:
        lines += _verifier(explanation["verifier"])
    if explanation["fusion"] is not None:
        lines.append(_fusion(explanation["fusion"]))
    return "\n".join(lines) + "\n"


def _course(explanation: Mapping[str, Any]) -> str:
    search, num_beams = explanation["search"], explanation["generator"]["num_beams"]
    if search["outcome"] == "lost":
        return (
            f"  lost at depth {search['depth']}: {search['prefix']!r} has {search['prefix_score']:.2f}, the last of "
            f"{num_beams} beams {search['last_beam_score']:.2f}"
        )
    place = "" if explanation["rank"] is None else f"rank {explanation['rank']}: "
    return f"  {place}{_OUTCOMES[search['outcome']]}"


def _words(explanation: Mapping[str, Any]) -> list[str]:
    lines, cluster, keywords = [], explanation["cluster"], explanation["keywords"]
    if cluster is not None:
        said = cluster["words_in_query"]
        words = ", ".join(_marked(word, said is not None and word in said) for word in cluster["words"])
        lines.append(f"  cluster {cluster['global_id']}: {words or 'its words are not recorded'}")
    if keywords:
        words = ", ".join(_marked(row["keyword"], row["in_query"]) for row in keywords)
        lines.append(f"  keywords: {words}")
    if explanation["query"]["text"] is not None and (cluster or keywords):
        lines.append("  (+ the query says it)")
    return lines


def _marked(word: str, said: bool | None) -> str:
    return f"+{word}" if said else word


def _steps(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    width = max(len(step["token"]) for step in steps)
    lines = [f"  {'depth':>5}  {'token':{width}}  {'log p':>8}  {'sum':>8}  best branch not taken"]
    for step in steps:
        other = step["best_other"]
        beside = "none" if other is None else f"{other['log_probability']:.2f} {other['token']!r}"
        if step["num_branches"] > 2:
            beside += f" of {step['num_branches'] - 1}"
        lines.append(
            f"  {step['depth']:>5}  {step['token']:{width}}  {step['log_probability']:>8.2f}  {step['sum']:>8.2f}  "
            f"{beside}"
        )
    return lines


def _generator(part: Mapping[str, Any]) -> str:
    text = f"  generator: log p {part['log_probability']:.2f}"
    if part["log_prior"] is not None:
        text += f", less {part['prior_weight']:.2f} x log prior {part['log_prior']:.2f}, is {part['score']:.2f}"
    found = f"rank {part['rank']}" if part["rank"] is not None else "not found"
    return f"{text}; {found} with {part['num_beams']} beams"


def _verifier(part: Mapping[str, Any]) -> list[str]:
    lines = [
        f"  verifier {part['name']}: {part['score']:.2f}, rank {part['rank']} of {part['num_candidates']} by it alone"
    ]
    if part["orders"]:
        answers = " ".join(
            f"{row['letter']} {row['probability']:.2f}{'*' if row['counts'] else ''}" for row in part["orders"]
        )
        lines.append(f"  its probability by the candidates' order (* counts): {answers}")
    return lines


def _fusion(part: Mapping[str, Any]) -> str:
    text = (
        f"  fused: ({part['generator_weight']:.2f} x generator + {1 - part['generator_weight']:.2f} x verifier) / "
        f"{part['temperature']:.2f} = {part['score']:.2f}"
    )
    if part["confidence"] is not None:
        text += f"; confidence {part['confidence']:.2f}"
    if part["no_match"] is not None:
        basis = part["no_match"]
        text += f"; all candidates together {basis['value']:.2f}, no match below {basis['below']:.2f}"
    return text
