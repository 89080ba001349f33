"""A study's findings in words and tables, from what ablations.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semcore.study.variants import FULL, PAPER_BEAMS

DIRECTIONS = {"t2i": "text → image", "i2t": "image → text"}
TITLES = {
    "parts": "What the parts are worth (paper, Table 3)",
    "beams": "Beams (paper, Table 5)",
    "grid": "Clusters and keywords (paper, Figure 3)",
}
COLUMNS = [(direction, metric) for direction in DIRECTIONS for metric in ("R@1", "R@5")]


def render_study(study: Mapping[str, Any]) -> str:
    """Return ablations.md: a table for each of the paper's, and what the order of its rows says."""
    blocks = ["# Ablations on drawn scenes", _introduction(study["settings"], study["seconds"])]
    for group, title in TITLES.items():
        rows = rows_of_group(study, group)
        blocks += [f"## {title}", table(rows), *_plot(study, group), "\n".join(study["statements"][group])]
    blocks += ["Table 4 compares backbones, which need real checkpoints: not run."]
    return "\n\n".join(block for block in blocks if block) + "\n"


def rows_of_group(study: Mapping[str, Any], group: str) -> list[dict[str, Any]]:
    """Return a table's rows in its order; the full system goes by what it is there."""
    settings = study["settings"]
    full = {"num_beams": settings["num_beams"]}
    full |= {"num_clusters": settings["num_clusters"], "num_keywords": settings["num_keywords"]}
    rows: list[tuple[Any, dict[str, Any]]] = []
    for row in study["variants"]:
        if group in row["groups"]:
            own = {**full, **row["changed"]["identifiers"], **row["changed"]["evaluate"]}
            if row["name"] == FULL and group == "beams":
                row = {
                    **row,
                    "label": f"{own['num_beams']} beams, as above",
                    "paper": PAPER_BEAMS.get(own["num_beams"]),
                }
            elif row["name"] == FULL and group == "grid":
                label = f"{own['num_clusters']} clusters, {own['num_keywords']} keywords, as above"
                row = {**row, "label": label, "paper": None}
            place = {"beams": own["num_beams"], "grid": (own["num_keywords"], own["num_clusters"])}.get(
                group, len(rows)
            )
            rows.append((place, row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a markdown table: score, and difference from the full system with its 95 % interval."""
    header = ["", "paper R@1, R@5", *(f"{DIRECTIONS[direction]} {metric}" for direction, metric in COLUMNS)]
    lines = [header, ["---"] + ["--:"] * (len(header) - 1)]
    for row in rows:
        paper = ", ".join(f"{score:.1f}" for score in row["paper"]) if row["paper"] else "–"
        lines.append([row["label"], paper, *(_cell(row, *column) for column in COLUMNS)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(row: Mapping[str, Any], direction: str, metric: str) -> str:
    score = row[direction][metric]
    if score is None:
        return "not measured"
    difference = score["difference"]
    if row["name"] == FULL:
        return f"{score['mean']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"
    return f"{score['mean']:.1f} ({difference['mean']:+.1f} [{difference['low']:+.1f}, {difference['high']:+.1f}])"


def _introduction(settings: Mapping[str, Any], seconds: float) -> str:
    return (
        f"{settings['train']} training, {settings['val']} val and {settings['test']} test scenes, at most "
        f"{settings['queries']} queries a direction, {settings['epochs']} epochs, {settings['num_seeds']} seeds, "
        f"{seconds / 60:.0f} minutes of stages in all. The full system: "
        f"{settings['num_clusters']} clusters, {settings['num_keywords']} keywords, {settings['num_beams']} beams, "
        "verification by likelihood, fused with the generator's score by weights from val. Recalls in percent, the "
        "queries of all seeds pooled; in brackets, points from "
        "the full system on the same queries, with the 95 % interval of a paired bootstrap over pictures (the full "
        "system's own row: of its score). The paper's scores are of Flickr30K, text → image; only the order can be "
        "compared."
    )


def _plot(study: Mapping[str, Any], group: str) -> list[str]:
    return [f"![{TITLES[group]}]({study['plots'][group]})"] if group in study["plots"] else []


def state_parts(order: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Say whether the parts stand in the paper's order."""

    def listed(names: Sequence[str]) -> str:
        return " > ".join(labels[name] for name in names)

    agrees = _agrees(order["agrees"], order["reversed_beyond_chance"])
    text = (
        f"- {DIRECTIONS[order['direction']]}, {order['metric']}: the order {agrees} the paper's. "
        f"Here {listed(order['ours'])}; paper {listed(order['paper'])}. {order['num_alike']} of "
        f"{order['num_pairs']} pairs stand alike (Kendall's tau {order['kendall_tau']:.2f})"
    )
    if order["reversed"]:
        text += f"; of the others {len(order['reversed_beyond_chance'])} beyond chance"
        turned = [f"{labels[worse]} above {labels[better]}" for better, worse in order["reversed_beyond_chance"]]
        text += f" ({', '.join(turned)})" if turned else ""
    return text + "."


def state_beams(order: Mapping[str, Any]) -> str:
    """Say whether wider beams find more."""
    how = "never falls" if order["monotone"] else "falls somewhere"
    falls = order["falls_beyond_chance"]
    sure = "" if order["monotone"] else f" ({len(falls)} steps down beyond chance)"
    widths = order["widths"]
    return (
        f"- {DIRECTIONS[order['direction']]}, {order['metric']}: {how} from {widths[0]} to {widths[-1]} beams{sure}, "
        f"which {_agrees(order['monotone'], falls)} the paper; {order['gain']:+.1f} in all, "
        f"{order['gain_after_20']:+.1f} after 20."
    )


def state_grid(order: Mapping[str, Any]) -> str:
    """Say which clusters and keywords are best, and how much the clusters matter."""
    (clusters, keywords), full = order["best"], order["full"]
    text = f"- {DIRECTIONS[order['direction']]}, {order['metric']}: best are {clusters} clusters x {keywords} keywords"
    if order["num_best"] > 1:
        text += f" and {order['num_best'] - 1} more that are as good"
    if order["full_is_best"]:
        text += ", the full system's, as in the paper."
    else:
        chance = "beyond" if order["best_beyond_chance"] else "within"
        text += f" ({chance} chance of the full system's {full[0]} x {full[1]}, which is the paper's kind of best)."
    if order["fewest_keywords_vary_most"] is None:
        return text
    spread = ", ".join(f"{points:.1f} with {count}" for count, points in order["spread"].items())
    most = (
        "vary most, as in the paper" if order["fewest_keywords_vary_most"] else "do not vary most; in the paper they do"
    )
    return f"{text} Range over the cluster sizes by keywords: {spread}; the fewest {most}."


def _agrees(agrees: bool, beyond_chance: Sequence[Any]) -> str:
    """Say how far an order is the paper's; what differs within chance speaks against nothing."""
    if agrees:
        return "agrees with"
    return "does not agree with" if beyond_chance else "agrees within chance with"
