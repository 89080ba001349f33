"""Show the best items for a sentence or an image, as a table or as JSON.

    semcore search --run runs/quickstart "a small red circle above a blue star"
    semcore search --run runs/quickstart --image photo.jpg --top-k 5 --json
    semcore search --run runs/quickstart "a small red circle above a blue star" --explain
    semcore search --run runs/quickstart "a small red circle above a blue star" --answer IMAGE_ID

A sentence searches images, an image searches sentences. The confidence of a hit is the probability that it answers
the query, calibrated on val. Where the scores of all candidates together come to less than a threshold, also fitted on
val, the search says "no match": it holds that no item answers the query, and shows the hits all the same.

--explain says of the best hit which words it was found by, what each step of its identifier cost beside the best branch
not taken, and what the prior, the verifier and the fusion added. --answer says the same of an item that you know to be
right, and where the search lost it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from semcore.data.directions import Direction
from semcore.retrieval.hits import Hit
from semcore.retrieval.prior_settings import PriorChoice, check_prior_weight
from semcore.runtime.errors import UserError
from semcore.runtime.garbage import uncollected
from semcore.runtime.settings import LineageSettings


@dataclass
class SearchSettings(LineageSettings):
    """What `semcore search` takes."""

    run: Path
    """The run folder."""
    text: str | None = None
    """A sentence; images are searched."""
    image: Path | None = None
    """An image; sentences are searched."""
    top_k: int = 10
    """How many hits to show."""
    split: Literal["all", "train", "val", "test"] = "all"
    """Search the items of one split, or of all."""
    prior_weight: PriorChoice = "fit"
    """How much of log p(identifier) comes off the generator's score: "fit" as the evaluation says, or a number from 0,
    the paper's score, to 1."""
    plain: bool = False
    """Search without the guide and the dense candidates of the evaluation, where it had any."""
    data: Path | None = None
    """Where the dataset is now, should it have moved."""
    explain: bool = False
    """Explain the best hit."""
    answer: str | None = None
    """The id of an item that answers the query: explain it, and where the search lost it."""
    json: bool = False
    """Print one JSON object a hit, for machines; `no_match`, and what it was decided on, is in each."""

    def __post_init__(self) -> None:
        if bool(self.text and self.text.strip()) == (self.image is not None):
            raise UserError("search needs one query: a text such as 'a red circle', or --image FILE")
        if self.top_k < 1:
            raise UserError(f"--top-k must be 1 or more, found {self.top_k}")
        check_prior_weight(self.prior_weight, "--prior-weight")


def main(settings: SearchSettings) -> None:
    """Print the ranked hits of one query."""
    with uncollected():  # one query leaves little behind, and the process ends after it
        _search(settings)


def _search(settings: SearchSettings) -> None:
    from semcore.retrieval.explanation_text import render_explanation
    from semcore.retrieval.retriever import Retriever
    from semcore.retrieval.search_notes import no_match_note

    retriever = Retriever.from_run(
        settings.run,
        data=settings.data,
        split=settings.split,
        base=settings.base,
        allow_mismatch=settings.allowed,
        prior_weight=settings.prior_weight,
        plain=settings.plain,
    )
    query: dict[str, Any] = {"text": settings.text} if settings.image is None else {"image": settings.image}
    hits = retriever.search(**query, top_k=settings.top_k)
    best = hits[0].explain() if settings.explain else None
    answer = None
    if settings.answer is not None:
        answer = retriever.explain(**query, item_id=settings.answer, top_k=settings.top_k)
    if settings.json:
        _write_json(hits, best, answer)
    else:
        _print_hits(hits)
        for explanation in (best, answer):
            if explanation is not None:
                sys.stdout.write(f"\n{render_explanation(explanation)}")
    direction = Direction.T2I if settings.image is None else Direction.I2T
    for note in (
        no_match_note(hits),
        retriever.prior_note(direction),
        retriever.confidence_note(direction),
    ):
        if note:
            sys.stderr.write(f"search: {note}\n")


def _write_json(hits: list[Hit], best: dict[str, Any] | None, answer: dict[str, Any] | None) -> None:
    """Write one object a hit, the best one with its explanation, and behind them that of the known answer."""
    rows = [asdict(hit) for hit in hits]
    if best is not None:
        rows[0]["explanation"] = best
    if answer is not None:
        rows.append({"answer": answer})
    for row in rows:
        sys.stdout.write(json.dumps(row, default=str, ensure_ascii=False) + "\n")


def _print_hits(hits: list[Hit]) -> None:
    """Print the hits as a table; what an item is depends on the direction."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "item", "score", "confidence", box=None)
    table.add_column("identifier", overflow="fold")
    table.add_column("what it is", overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        what = hit.text if hit.text is not None else _shortened(hit.image_path)
        confidence = "" if hit.confidence is None else f"{hit.confidence:.2f}"
        table.add_row(str(rank), hit.item_id, f"{hit.score:.3f}", confidence, escape(hit.identifier), escape(what))
    Console(highlight=False).print(table)


def _shortened(path: Path | None) -> str:
    if path is None:
        return ""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
