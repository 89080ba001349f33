"""Sentences on a study's tables: orders beside the paper's, trends, expectations, and the best of several rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semcore.data.directions import Direction


def state_order(order: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """State whether variants are in the paper's order."""

    def listed(names: Sequence[str]) -> str:
        return " > ".join(labels[name] for name in names)

    agrees = _agrees(order["agrees"], order["reversed_beyond_chance"])
    text = (
        f"- {_where(order)}: the order {agrees} the paper's. "
        f"Here {listed(order['ours'])}; paper {listed(order['paper'])}. {order['num_alike']} of "
        f"{order['num_pairs']} pairs stand alike (Kendall's tau {order['kendall_tau']:.2f})"
    )
    if order["reversed"]:
        text += f"; of the others {len(order['reversed_beyond_chance'])} beyond chance"
        reversed_pairs = [
            f"{labels[worse]} above {labels[better]}" for better, worse in order["reversed_beyond_chance"]
        ]
        text += f" ({', '.join(reversed_pairs)})" if reversed_pairs else ""
    return text + "."


def state_axis(order: Mapping[str, Any]) -> str:
    """State whether the score rises with a setting."""
    values, falls = order["values"], order["falls_beyond_chance"]
    how = "never falls" if order["monotone"] else f"falls somewhere ({len(falls)} steps down beyond chance)"
    return f"- {_where(order)}: {how} from {order['axis']} {values[0]} to {values[-1]}; {order['gain']:+.1f} in all."


def state_grid(order: Mapping[str, Any]) -> str:
    """State the best point of a grid, and the range over its axis."""
    x, y = order["best"]
    text = f"- {_where(order)}: best are {order['axis']} {x} and {order['lines']} {y}"
    if order["num_best"] > 1:
        text += f" and {order['num_best'] - 1} more that are as good"
    if order["reference_is_best"]:
        text += ", the reference's"
    elif order["reference"] is not None:
        chance = "beyond" if order["best_beyond_chance"] else "within"
        text += f" ({chance} chance of the reference's {order['reference'][0]} and {order['reference'][1]})"
    spread = ", ".join(f"{points:.1f} with {line}" for line, points in order["spread"].items())
    return f"{text}. Range over {order['axis']} by {order['lines']}: {spread}." if spread else f"{text}."


def state_verdict(verdict: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """State whether two rows stand in the order that somebody expects."""
    source = f" ({verdict['source']})" if verdict["source"] else ""
    return (
        f"- {_where(verdict)}: {labels[verdict['better']]} above {labels[verdict['worse']]}{source}: "
        f"{verdict['verdict']}, {_points(verdict)}."
    )


def state_best(best: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """State which row is best, and by how much it is above another."""
    text = f"- {_where(best)}: best is {labels[best['best']]} with {best['mean']:.1f}"
    return f"{text}." if best["best"] == best["against"] else f"{text}, {_points(best)} over {labels[best['against']]}."


def _points(difference: Mapping[str, Any]) -> str:
    return f"{difference['difference']:+.1f} [{difference['low']:+.1f}, {difference['high']:+.1f}]"


def _where(order: Mapping[str, Any]) -> str:
    return f"{Direction(order['direction']).label}, {order['metric']}"


def _agrees(agrees: bool, beyond_chance: Sequence[Any]) -> str:
    """State how far an order agrees with the paper's; differences within chance are no contradiction."""
    if agrees:
        return "agrees with"
    return "does not agree with" if beyond_chance else "agrees within chance with"
