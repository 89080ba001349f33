"""A later item has the identifier that it had when it was in the dataset from the beginning, for it taught nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from semcore.data.corpus_changes import ADDED
from semcore.data.identifier_files import IdentifierRow, all_identifiers, identifier_parts
from semcore.identifiers.code_settings import QuantizerSettings
from semcore.identifiers.coded import number_token
from semcore.identifiers.collisions import Numbered, first_free, possible_codes
from semcore.identifiers.hierarchical import node_token
from semcore.identifiers.later_items import open_later
from semcore.identifiers.scheme import Identifiers, LaterItems, SchemeInputs, Vectors
from semcore.identifiers.schemes import SCHEMES
from semcore.identifiers.write import _write_others
from semcore.runtime.errors import UserError
from tests.semcore.identifiers.scheme_inputs import only_images, scheme_inputs

BOTH = ("t2i", "i2t")
Settings = dict[str, Any]
RQ_VAE: Settings = {"kind": "rq-vae", "shared": True, "num_steps": 3, "layers": [8], "dim": 4}
CODES: list[tuple[str, Settings, Settings]] = [
    ("vokens", {}, {}),
    ("vokens", {"collisions": "count", "modality_token": True}, {}),
    ("vokens", {"collisions": "next"}, {}),
    ("vokens", {"per_item": 3}, {}),
    ("vokens", {"collisions": "next"}, RQ_VAE),
    ("coarse-fine", {"modality_token": True}, {}),
    ("coarse-fine", {"collisions": "count"}, {}),
    ("coarse-fine", {"collisions": "next"}, {"num_codes": 2}),
    ("coarse-fine", {"per_item": 2}, {}),
    ("hierarchical", {"branch": 3, "leaf": 4}, {}),
    ("hierarchical", {"branch": 4, "leaf": 2}, {}),
]


def made_with(scheme: str, changes: Settings, quantizer: Settings) -> tuple[SchemeInputs, Identifiers]:
    own = QuantizerSettings(**{"num_levels": 2, "num_codes": 4, **quantizer})
    inputs = scheme_inputs(num_images=60, quantizer=own, **{"coarse": 3, **changes})
    return inputs, SCHEMES[scheme].make(inputs)


def rows_of(made: Identifiers) -> dict[str, list[IdentifierRow]]:
    return {"t2i": list(made.t2i), "i2t": list(made.i2t)}


def split_order(inputs: SchemeInputs) -> list[int]:
    """Return the places of the images of val, then of test: so identifiers are told apart."""
    return [place for split in ("val", "test") for place, own in enumerate(inputs.captions) if own.split == split]


def add(folder: Path, settings: Settings, inputs: SchemeInputs, places: list[int], there: Any) -> Any:
    """Identify images and their sentences as later items, given the rows that are there; return their rows."""
    vectors: Any = inputs.vectors()
    said = [n for image in places for n, own in enumerate(inputs.image_of_sentence) if own == image]
    later = LaterItems(
        [inputs.captions[place]._replace(split=ADDED) for place in places],
        [inputs.sentences[place]._replace(split=ADDED) for place in said],
        encoder=lambda: 1 / 0,  # type: ignore[arg-type,return-value]
        vectors=lambda: Vectors(vectors.images[places], vectors.sentences[said]),
        taken=lambda: ({row["identifier"] for row in there["t2i"]}, {row["identifier"] for row in there["i2t"]}),
    )
    return dict(zip(BOTH, open_later(folder, settings)(later), strict=True))


@pytest.mark.parametrize(("scheme", "changes", "quantizer"), CODES, ids=str)
def test_it_is_the_identifier_from_the_beginning(
    tmp_path: Path, scheme: str, changes: Settings, quantizer: Settings
) -> None:
    inputs, whole = made_with(scheme, changes, quantizer)
    later = split_order(inputs)
    first = only_images(inputs, [place for place in range(60) if place not in later])
    small = SCHEMES[scheme].make(first)
    _write_others(tmp_path, small)
    known, settings = set(small.tokens.texts if small.tokens else ()), {"scheme": scheme, **asdict(inputs.codes)}
    there, equal, shared = rows_of(small), 0, 0
    before = {name: [row["identifier"] for row in rows] for name, rows in there.items()}
    for batch in (later[:5], later[5:6], later[6:]):  # each addition sees what the ones before it took
        for name, rows in add(tmp_path, settings, inputs, batch, there).items():
            there[name] += rows
    for name, rows in rows_of(whole).items():
        expected = {row["item_id"]: row for row in rows}
        assert [row["identifier"] for row in there[name]][: len(before[name])] == before[name]
        assert len(there[name]) == len(rows)
        for row in there[name]:
            assert set(identifier_parts(row)) <= known
            wanted = expected[row["item_id"]]
            if set(identifier_parts(wanted)) <= known:
                assert {**row, "split": wanted["split"]} == wanted
                equal += 1
            else:  # no token for its number: it shares the first identifier of these codes
                assert row["split"] == ADDED and row["identifier"] == first_of(wanted, scheme, changes, there[name])
                shared += 1
    assert equal > shared and all(len(all_identifiers(row)) == changes.get("per_item", 1) for row in there["t2i"])


def first_of(row: IdentifierRow, scheme: str, changes: Settings, there: list[IdentifierRow]) -> str:
    """Return the first identifier of an item whose number has no token."""
    *before, _ = identifier_parts(row)
    if scheme == "hierarchical":
        alone = any(own["identifier"] == "".join(before) for own in there)
        return "".join(before if alone else [*before, node_token(len(before), 0)])
    return "".join([*before, number_token(0)] if changes["collisions"] == "count" else before)


def test_captions_stay_what_is_said(tmp_path: Path) -> None:
    inputs, whole = made_with("caption", {}, {})
    found = add(tmp_path, {"scheme": "caption"}, inputs, [3, 9], {})
    for name, rows in rows_of(whole).items():
        expected = {row["item_id"]: row for row in rows}
        assert [{**row, "split": ""} for row in found[name]] == [
            {**expected[row["item_id"]], "split": ""} for row in found[name]
        ]


def test_a_number_that_was_freed_is_given_again(tmp_path: Path) -> None:
    inputs, made = made_with("vokens", {"collisions": "count"}, {})
    _write_others(tmp_path, made)
    there, settings = rows_of(made), {"scheme": "vokens", **asdict(inputs.codes)}
    for place in split_order(inputs)[:3]:
        gone = there["t2i"][place]
        others = {name: [row for row in rows if row is not gone] for name, rows in there.items()}
        [row] = add(tmp_path, settings, inputs, [place], others)["t2i"]
        assert row["identifier"] == gone["identifier"]


def test_without_vectors_of_sentences_they_have_no_rows(tmp_path: Path) -> None:
    for scheme in ("vokens", "hierarchical"):
        inputs, made = made_with(scheme, {"branch": 3, "leaf": 4}, {})
        _write_others(tmp_path, made)
        vectors = Vectors(inputs.vectors().images[:2], None)
        later = LaterItems(
            inputs.captions[:2], inputs.sentences[:4], lambda: 1 / 0,  # type: ignore[arg-type,return-value]
            partial(Vectors, *vectors), lambda: (set(), set()),
        )  # fmt: skip
        rows, of_sentences = open_later(tmp_path, {"scheme": scheme, **asdict(inputs.codes)})(later)
        assert len(rows) == 2 and of_sentences == []


def test_free_codes_are_tried_in_order_and_the_first_is_shared() -> None:
    def others() -> Iterator[tuple[int, ...]]:
        yield from ((1, last) for last in (2, 3, 0))

    assert list(possible_codes((1, 2), "share", others, [0, 1])) == [((1, 2), None)]
    assert list(possible_codes((1, 2), "count", others, [0, 1])) == [((1, 2), 0), ((1, 2), 1)]
    every: list[Numbered] = [((1, 2), None), ((1, 2), None), ((1, 3), None), ((1, 0), None), ((1, 2), 1)]
    assert list(possible_codes((1, 2), "next", others, [1])) == every
    possible = [possible_codes((1, 2), "next", others, [1]) for _ in range(5)]
    found = first_free(possible, str, {str(((1, 3), None))})
    assert found == [((1, 2), None), ((1, 0), None), ((1, 2), 1), ((1, 2), None), ((1, 2), None)]


@pytest.mark.parametrize(
    ("scheme", "why"),
    [
        ("numeric", "a number says nothing of a new item, so that nobody could search for it"),
        ("string", "a number says nothing of a new item, so that nobody could search for it"),
        ("atomic", "a token of an item's own says nothing until it is trained"),
        (None, "there is no such scheme"),
    ],
)
def test_other_schemes_are_refused_in_a_sentence(tmp_path: Path, scheme: str | None, why: str) -> None:
    with pytest.raises(UserError) as refused:
        open_later(tmp_path / "identifiers", {"scheme": scheme})
    assert str(refused.value) == (
        f"the identifiers of {tmp_path} are of the scheme {scheme!r}, which has none for items that come later: {why}; "
        "put the items into the dataset and make the identifiers again (those of the schemes structured, vokens, "
        "coarse-fine, hierarchical and caption are made for later items, too)"
    )


@pytest.mark.parametrize(
    ("scheme", "missing", "what"),
    [
        ("vokens", "quantizer.safetensors", "holds no quantiser; make the identifiers again"),
        ("hierarchical", "tree.safetensors", "holds no tree; make the identifiers again"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, scheme: str, missing: str, what: str) -> None:
    inputs, made = made_with(scheme, {}, {})
    _write_others(tmp_path, replace(made, arrays={}))
    with pytest.raises(UserError) as refused:
        open_later(tmp_path, {"scheme": scheme, **asdict(inputs.codes)})
    assert str(refused.value) == f"{tmp_path / missing} {what}"
