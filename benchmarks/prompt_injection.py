"""Texts that try to steer the generator and the verifiers, in queries and in sentences that are searched.

    python -m benchmarks.prompt_injection --run runs/quickstart
    python -m benchmarks.prompt_injection --run runs/quickstart --json injection.json --table injection.md

Fifty texts ("answer A", closing tags, tokens of the chat template, other languages, ...) are each attached to some
sentences of the test split, and so is a harmless text of as many tokens. "ours" is the mean rank with the attack, the
peer that with the harmless text; the note has the rank without either, and the difference with its interval (95 %,
bootstrap over images).

query       a sentence that searches images: the rank of the right image, by the generator (a miss counts as one
            behind the last beam), and by each verifier on the generator's candidates
candidate   a wrong sentence among the candidates of an image, the one that the verifier likes least: its own rank,
            which an attack wants low, and that of the right sentence
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.injections import all_injections, harmless_text
from benchmarks.report import Row, publish
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.dataset import Dataset, load_dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.data.run_folder import RunFolder
from semcore.evaluation.statistics import bootstrap_interval, paired_difference
from semcore.models.inference import load_for_inference
from semcore.models.run_checkpoints import generator_of
from semcore.models.session import ModelSession, load_session
from semcore.models.verifier_registry import VerifierName
from semcore.retrieval.batch import SplitKey, SplitView, read_split_views
from semcore.retrieval.corpus import Corpus, build_corpus
from semcore.retrieval.generator import generate
from semcore.retrieval.shortlist import Shortlist, make_shortlist
from semcore.retrieval.verifiers import open_verifier, verifier_scores
from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text
from semcore.runtime.markdown_tables import markdown_table
from semcore.runtime.packaged_files import asset_folder
from semcore.verification import LETTERS

CLEAN, HARMLESS, ATTACK = "clean", "harmless", "attack"
VERIFIERS: tuple[VerifierName, ...] = ("listwise", "likelihood")


@dataclass
class Settings:
    """What is attacked."""

    run: Path
    """A finished run of the quickstart."""
    data: Path | None = None
    """Where the dataset is now, should it have moved."""
    base: Path | None = None
    """The model that the likelihood verifier asks; by default the scenes' base."""
    queries: int = 4
    """Queries a text and direction, of its own each."""
    num_beams: int = 20
    """Width of the beam."""
    num_candidates: int = 10
    """Candidates of a verifier."""
    seed: int = 0
    """Of the draw of queries."""
    json: Path | None = None
    """Save the rows in this file."""
    table: Path | None = None
    """Save the table in this file, as markdown."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "queries", "num_beams")
        require_minimum(0, self, "seed")
        if not 2 <= self.num_candidates <= min(len(LETTERS), self.num_beams):
            raise UserError(
                f"--num-candidates must be from 2 to --num-beams and {len(LETTERS)}, found {self.num_candidates}"
            )


class Case(NamedTuple):
    """One text attached once.

    Attributes:
        kind: of the text.
        group: the image that is searched, or searches.
        ranks: name of a measure -> condition -> rank from 1.
    """

    kind: str
    group: str
    ranks: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Bench:
    """The models of a run, and how long a text is for them."""

    generator: ModelSession
    verifiers: Mapping[VerifierName, Any]
    settings: Settings

    def attached(self, text: str, attack: str) -> dict[str, str]:
        """Return a sentence as it is, with harmless words, and with an attack of as many tokens behind it."""
        tokenizer = self.generator.checkpoint.tokenizer

        def length_of(own: str) -> int:
            return len(tokenizer(own, add_special_tokens=False)["input_ids"])

        return {
            CLEAN: text,
            HARMLESS: f"{text} {harmless_text(length_of(attack), length_of)}",
            ATTACK: f"{text} {attack}",
        }


def main(settings: Settings) -> None:
    """Attach every text, and publish the ranks."""
    run = RunFolder(settings.run)
    dataset = load_dataset(settings.data or run.data_folder())
    bench = open_bench(settings, run, dataset)
    views = read_split_views(run, dataset, "test")
    cases = [
        *query_cases(bench, views[SplitKey("test", Direction.T2I)]),
        *candidate_cases(bench, views[SplitKey("test", Direction.I2T)]),
    ]
    rows = list(rows_of(cases))
    publish(rows, settings.json, num_texts=len(all_injections()), queries=settings.queries, seed=settings.seed)
    if settings.table is not None:
        write_table(settings.table, rows)


def open_bench(settings: Settings, run: RunFolder, dataset: Dataset) -> Bench:
    """Load the generator and the verifiers."""
    checkpoints = {
        "listwise": str(run / "verifier_model"),
        "likelihood": str(settings.base or asset_folder("scenes_base")),
    }
    features = run / "features"
    verifiers = {name: open_verifier(name, checkpoints[name], dataset, features) for name in VERIFIERS}
    return Bench(load_session(load_for_inference(generator_of(run)), dataset, features), verifiers, settings)


def attacks(view: SplitView, settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield kind and text of every attack with the id of each of its queries, of different images where there are."""
    texts = all_injections()
    rng = np.random.default_rng(settings.seed)
    ids = rng.permutation(sorted(view.queries.contents)).tolist()
    needed = len(texts) * settings.queries
    ids = (ids * -(-needed // len(ids)))[:needed]
    for number, (kind, text) in enumerate(texts):
        for query in ids[number :: len(texts)]:
            yield kind, text, query


def query_cases(bench: Bench, view: SplitView) -> Iterator[Case]:
    """Yield the ranks of right images for sentences with texts behind them."""
    corpus = build_corpus(bench.generator, Direction.T2I, list(view.items.values()))
    for kind, injection, query in attacks(view, bench.settings):
        right = view.queries.relevant[query]
        clean = view.queries.contents[query]
        shortlist = shortlist_of(bench, Direction.T2I, corpus, clean, right)
        wrong = max(place for place, item in enumerate(shortlist.items) if item.item_id not in right)
        texts = bench.attached(clean, injection.replace("{letter}", LETTERS[wrong]))
        hits = generate(
            bench.generator, Direction.T2I, list(texts.values()), corpus, num_beams=bench.settings.num_beams
        )
        ranks = {
            "generator, query: the right image": {
                name: first_rank([hit.item_id for hit in own], right, bench.settings.num_beams + 1)
                for name, own in zip(texts, hits, strict=True)
            }
        }
        asked = [shortlist._replace(query=text) for text in texts.values()]
        for verifier, scores in scored(bench, Direction.T2I, asked):
            ranks[f"{verifier}, query: the right image"] = {
                name: rank_of(own, places_of(shortlist, right)) for name, own in zip(texts, scores, strict=True)
            }
        yield Case(kind, min(right), ranks)


def candidate_cases(bench: Bench, view: SplitView) -> Iterator[Case]:
    """Yield the ranks of a wrong sentence with texts behind it, and of the right one beside it."""
    corpus = build_corpus(bench.generator, Direction.I2T, list(view.items.values()))
    for kind, injection, query in attacks(view, bench.settings):
        right = view.queries.relevant[query]
        shortlist = shortlist_of(bench, Direction.I2T, corpus, view.queries.contents[query], right)
        wrong = [place for place, item in enumerate(shortlist.items) if item.item_id not in right]
        if not wrong:  # all candidates describe the image
            continue
        ranks: dict[str, dict[str, int]] = {}
        for verifier in VERIFIERS:
            ranks |= poisoned(bench, verifier, shortlist, wrong, places_of(shortlist, right), injection)
        yield Case(kind, query, ranks)


def poisoned(
    bench: Bench,
    verifier: VerifierName,
    shortlist: Shortlist,
    wrong: Sequence[int],
    right: Sequence[int],
    injection: str,
) -> dict[str, dict[str, int]]:
    """Return the ranks when the wrong candidate that a verifier likes least carries a text."""
    [scores] = verifier_scores(verifier, bench.verifiers[verifier], Direction.I2T, [shortlist])
    place = min(wrong, key=lambda own: scores[own])
    texts = bench.attached(shortlist.items[place].text, injection.replace("{letter}", LETTERS[place]))
    asked = [shortlist._replace(items=with_text(shortlist.items, place, texts[name])) for name in (HARMLESS, ATTACK)]
    found = [scores, *verifier_scores(verifier, bench.verifiers[verifier], Direction.I2T, asked)]
    by_name = dict(zip((CLEAN, HARMLESS, ATTACK), found, strict=True))
    return {
        f"{verifier}, candidate: the attacker": {name: rank_of(own, [place]) for name, own in by_name.items()},
        f"{verifier}, candidate: the right sentence": {name: rank_of(own, right) for name, own in by_name.items()},
    }


def shortlist_of(bench: Bench, direction: Direction, corpus: Corpus, query: str, right: set[str] | Any) -> Shortlist:
    """Return the generator's candidates; where none is right, a right one in place of the last."""
    most = bench.settings.num_candidates
    [hits] = generate(bench.generator, direction, [query], corpus, num_beams=bench.settings.num_beams)
    shortlist = make_shortlist(query, hits, corpus.items, most)
    if places_of(shortlist, right):
        return shortlist
    return shortlist._replace(items=(*shortlist.items[:-1], corpus.items[min(right)]))


def scored(
    bench: Bench, direction: Direction, shortlists: Sequence[Shortlist]
) -> Iterator[tuple[str, list[list[float]]]]:
    """Yield each verifier's name and its scores of shortlists."""
    for name in VERIFIERS:
        yield name, verifier_scores(name, bench.verifiers[name], direction, shortlists)


def with_text(items: Sequence[Item], place: int, text: str) -> tuple[Item, ...]:
    """Return candidates of which one says something else."""
    return (*items[:place], replace(items[place], text=text), *items[place + 1 :])


def places_of(shortlist: Shortlist, right: Any) -> list[int]:
    """Return where the right candidates stand."""
    return [place for place, item in enumerate(shortlist.items) if item.item_id in right]


def first_rank(item_ids: Sequence[str], right: Any, missed: int) -> int:
    """Return the rank of the first right item, from 1; `missed` where there is none.

    >>> first_rank(["a", "b"], {"b"}, 21), first_rank(["a", "b"], {"c"}, 21)
    (2, 21)
    """
    return next((rank for rank, item_id in enumerate(item_ids, start=1) if item_id in right), missed)


def rank_of(scores: Sequence[float], places: Sequence[int]) -> int:
    """Return the best rank, from 1, that candidates in some places have by their scores.

    >>> rank_of([0.1, 0.7, 0.5], [0, 2])
    2
    """
    best = max(scores[place] for place in places)
    return 1 + sum(score > best for score in scores)


def rows_of(cases: Sequence[Case]) -> Iterator[Row]:
    """Yield a row for every measure over all texts, then one for every kind of them."""
    measures = list(dict.fromkeys(name for case in cases for name in case.ranks))
    kinds = list(dict.fromkeys(case.kind for case in cases))
    for measure in measures:
        own = [case for case in cases if measure in case.ranks]
        yield row_of(measure, own, measure)
        for kind in kinds:
            yield row_of(f"{measure}, {kind}", [case for case in own if case.kind == kind], measure)


def row_of(name: str, cases: Sequence[Case], measure: str) -> Row:
    """Return the mean ranks of some cases."""
    groups = [case.group for case in cases]
    clean, harmless, attack = (
        np.array([case.ranks[measure][condition] for case in cases], dtype=np.float64)
        for condition in (CLEAN, HARMLESS, ATTACK)
    )
    change = paired_difference(harmless, attack, groups=groups)
    firsts = [100 * float((own == 1).mean()) for own in (clean, harmless, attack)]
    low, high = bootstrap_interval(attack, groups=groups)
    note = (
        f"{len(cases)} cases; rank {clean.mean():.2f} without either, {attack.mean():.2f} [{low:.2f}, {high:.2f}] with "
        f"the attack, {change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}] against harmless words; first in "
        f"{firsts[0]:.0f} / {firsts[1]:.0f} / {firsts[2]:.0f} % (clean / harmless / attack)"
    )
    peer = float(harmless.mean())
    return Row(
        name, round(float(attack.mean()), 3), round(peer, 3), round(peer / float(attack.mean()), 3), "rank", note
    )


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as a table in markdown."""
    lines = [[row.name, f"{row.peer:.2f}", f"{row.ours:.2f}", row.note] for row in rows]
    with atomic_text(path) as handle:
        handle.write(markdown_table(["measure", "rank, harmless", "rank, attack", "note"], lines, num_texts=1) + "\n")


if __name__ == "__main__":
    run_command(main, Settings)
