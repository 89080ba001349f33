from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semcore.data.directions import Direction
from semcore.demo.page_queries import MOST_BEAMS, MOST_LETTERS, PRIORS, PageQuery, checked, query_of
from semcore.runtime.errors import UserError

VERIFIERS = {"auto": "as the run says", "listwise": "listwise", "none": "none"}
RED = PageQuery(text="a red circle")

queries = st.builds(
    PageQuery,
    text=st.text(min_size=1, max_size=60),
    num_beams=st.integers(1, MOST_BEAMS),
    verifier=st.sampled_from(sorted(VERIFIERS)),
    prior=st.sampled_from(sorted(PRIORS)),
)


def read(link: str) -> PageQuery:
    assert link.startswith("?")
    return query_of(dict(parse_qsl(link[1:], keep_blank_values=True)), 20)


@given(queries)
def test_a_link_repeats_its_query(query: PageQuery) -> None:
    assert read(query.link) == query


@given(queries)
def test_a_checked_query_is_checked_once_and_for_all(query: PageQuery) -> None:
    try:
        once = checked(query, VERIFIERS)
    except UserError:
        return
    assert checked(once, VERIFIERS) == once == checked(read(once.link), VERIFIERS)


def test_links_of_pictures_and_the_other_direction() -> None:
    query = replace(RED, num_beams=5, verifier="none", prior="0")
    other = query.on(image="scene-1")
    assert other.link == "?image=scene-1&beams=5&verifier=none&prior=0"
    assert (query.direction, other.direction) == (Direction.T2I, Direction.I2T)
    assert read(PageQuery(image="upload:0123").link).image == "upload:0123"
    assert other.prior_weight == 0.0 and RED.prior_weight == "fit"


def test_what_a_link_leaves_out_is_as_usual_and_what_it_has_besides_is_ignored() -> None:
    assert query_of({"text": "a dog", "colour": "red"}, 7) == PageQuery("a dog", num_beams=7)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (
            PageQuery(),
            "there is nothing to search for yet; type a sentence such as 'a red circle', or drop a picture",
        ),
        (
            PageQuery(text=" \u200b\n "),
            "there is nothing to search for yet; type a sentence such as 'a red circle', or drop a picture",
        ),
        (PageQuery("a dog", "scene-1"), "a search takes a sentence or a picture, found both; leave one out"),
        (
            PageQuery("a" * 100_000),
            f"a sentence may have {MOST_LETTERS:,} letters here, found 100,000; shorten it",
        ),
        (replace(RED, num_beams=0), "the beam's width must be from 1 to 100, found 0"),
        (replace(RED, num_beams=101), "the beam's width must be from 1 to 100, found 101"),
        (
            replace(RED, verifier="<b>"),
            "there is no verifier '<b>' here; choose one of auto, listwise, none",
        ),
        (replace(RED, prior="2"), "there is no prior '2'; choose one of fit, 0, 0.25, 0.5, 0.75, 1"),
    ],
)
def test_a_wrong_query_is_said_in_a_sentence(query: PageQuery, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        checked(query, VERIFIERS)
    assert str(error.value) == sentence


@pytest.mark.parametrize("beams", ["ten", "-1", "2.5", "", "²", "9" * 5000])
def test_a_width_that_is_no_number_is_named(beams: str) -> None:
    with pytest.raises(UserError, match="^the beam's width must be from 1 to 100, found '"):
        query_of({"text": "a dog", "beams": beams}, 20)
