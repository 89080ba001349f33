"""Page of a run in gradio: what is typed, dropped and chosen in, hits and explanations out.

The page itself holds no state: a search is its link, and so is the explanation of a hit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import gradio as gr

from semcore.data.directions import Direction
from semcore.demo.examples import Examples
from semcore.demo.page_queries import AUTO, FIT, MOST_BEAMS, PRIORS, PageQuery, query_of
from semcore.demo.results_html import explanation_html, message_html, results_html, title_html
from semcore.demo.run_search import RunSearch
from semcore.runtime.errors import UserError

logger = logging.getLogger(__name__)
FOLDER = Path(__file__).parent / "templates"
CSS, SCRIPT = FOLDER / "page.css", FOLDER / "results.js"
TEXT_TAB, IMAGE_TAB = "text", "image"
INVITATION = "Type a sentence to find images, or drop a picture to find sentences."
FAILED = "the search failed; the terminal in which the page was started says why"
QUEUE: dict[str, Any] = {"concurrency_id": "search", "concurrency_limit": 1, "api_visibility": "private"}


class Controls(NamedTuple):
    """The settings of a search on the page."""

    beams: gr.Slider
    verifier: gr.Dropdown
    prior: gr.Dropdown


def build_page(search: RunSearch, examples: Examples, title: str, counts: Callable[[], str]) -> gr.Blocks:
    """Return the page of a run.

    Args:
        search: the run.
        examples: queries to choose from.
        title: what the page is called.
        counts: says what can be found, in words; it is asked whenever somebody opens the page.
    """
    answers = Answers(search, lambda: title_html(title, counts()))

    def explain(asked: Mapping[str, str]) -> str:  # gradio takes no method here
        return answers.explain(asked)

    with gr.Blocks(analytics_enabled=False, title=f"{title} · semcore", fill_width=True) as page:
        head = gr.HTML(title_html(title, counts()), apply_default_css=False, js_on_load=None)
        with gr.Row(elem_id="sc-page"):
            with gr.Column(scale=2, min_width=320, elem_id="sc-query"):
                with gr.Tabs(selected=TEXT_TAB) as tabs:
                    with gr.Tab("By sentence", id=TEXT_TAB):
                        text = gr.Textbox(label="Sentence", lines=2, max_lines=6, submit_btn=False, elem_id="sc-text")
                        find_images = gr.Button("Find images", variant="primary", elem_id="sc-find-images")
                        chosen_text = _examples(examples.sentences, text)
                    with gr.Tab("By picture", id=IMAGE_TAB):
                        picture = _picture()
                        find_sentences = gr.Button("Find sentences", variant="primary", elem_id="sc-find-sentences")
                        chosen_picture = _examples(examples.pictures, picture)
                controls = _controls(search)
            with gr.Column(scale=5, min_width=320):
                results = gr.HTML(
                    message_html(INVITATION),
                    apply_default_css=False,
                    js_on_load=SCRIPT.read_text(encoding="utf-8"),
                    server_functions=[explain],
                    elem_id="sc-out",
                )
        for event in (find_images.click, text.submit, *([chosen_text.then] if chosen_text else [])):
            event(answers.of_text, [text, *controls], results, **QUEUE)
        for event in (find_sentences.click, picture.upload, *([chosen_picture.then] if chosen_picture else [])):
            event(answers.of_picture, [picture, *controls], results, **QUEUE)
        # Two steps: without a search in the link nothing is shown anew, and what a quick user has typed stays.
        linked = gr.State()
        page.load(answers.opened, None, [head, linked], **QUEUE)
        shown: list[Any] = [tabs, text, picture, *controls, results]
        linked.change(answers.of_link, linked, shown, show_progress_on=results, **QUEUE)
    return page


class Answers:
    """What the page calls: inputs of its components in, HTML out; a user's mistake is a sentence in its place.

    Args:
        search: the run.
        head: returns the head of the page, with the number of items.
    """

    def __init__(self, search: RunSearch, head: Callable[[], str]):
        self._search, self._head = search, head
        self._numbers = count(1)

    def of_text(self, text: str | None, beams: float, verifier: str, prior: str) -> str:
        """Return the hits of a sentence."""
        return self._answer(lambda: PageQuery(text or "", "", int(beams), verifier, prior))

    def of_picture(self, path: str | None, beams: float, verifier: str, prior: str) -> str:
        """Return the hits of a picture on the page."""

        def make_query() -> PageQuery:
            if path is None:
                raise UserError("there is no picture yet; drop one, or choose an example")
            return PageQuery("", self._search.pictures.key_of(Path(path)), int(beams), verifier, prior)

        return self._answer(make_query)

    def opened(self, request: gr.Request) -> tuple[str, dict[str, str] | None]:
        """Return the head of a page that somebody opens, and its link's parameters; None without a search in them."""
        self._search.refresh()
        parameters = dict(request.query_params)
        return self._head(), parameters if "text" in parameters or "image" in parameters else None

    def of_link(self, parameters: Mapping[str, str]) -> list[Any]:
        """Return the page as a link describes it, its search done: tab, sentence, picture, settings and hits."""
        usual = PageQuery(num_beams=self._search.retriever.num_beams)
        try:
            query = query_of(parameters, usual.num_beams)
        except UserError as error:
            return self._page(usual, None, message_html(str(error), is_problem=True))
        html = self._answer(lambda: query)
        try:
            shown = self._search.pictures.shown(query.image) if query.image else None
        except UserError:  # the answer says so
            shown = None
        return self._page(query, shown, html)

    def explain(self, asked: Mapping[str, str]) -> str:
        """Return the explanation of a hit: its "item" in the results of a "link"."""

        def work() -> str:
            query = query_of(dict(parse_qsl(str(asked["link"]).removeprefix("?"))), 1)
            return explanation_html(self._search.explain(query, str(asked["item"])))

        return _or_sentence(work)

    def _answer(self, make_query: Callable[[], PageQuery]) -> str:
        """Return an answer, numbered: the page shows, and scrolls to, only what is not the same as before."""
        html = _or_sentence(lambda: results_html(self._search.search(make_query())))
        return f"{html}<!-- answer {next(self._numbers)} -->"

    def _page(self, query: PageQuery, picture: str | None, html: str) -> list[Any]:
        """Return the values of the page's components; a setting that cannot be chosen is shown as usual."""
        beams = min(max(query.num_beams, 1), MOST_BEAMS)
        verifier = query.verifier if query.verifier in self._search.verifiers else AUTO
        prior = query.prior if query.prior in PRIORS else FIT
        selected = IMAGE_TAB if query.direction is Direction.I2T else TEXT_TAB
        return [gr.Tabs(selected=selected), query.text, picture, beams, verifier, prior, html]


def _or_sentence(work: Callable[[], str]) -> str:
    """Return what `work` does, or what is wrong with the user's input; other errors go to the terminal."""
    try:
        return work()
    except UserError as error:
        return message_html(str(error), is_problem=True)
    except Exception:
        logger.exception("a search failed")
        return message_html(FAILED, is_problem=True)


def _controls(search: RunSearch) -> Controls:
    with gr.Accordion("Settings", open=False, elem_id="sc-settings"):
        beams = gr.Slider(
            1, MOST_BEAMS, value=search.retriever.num_beams, step=1, label="Beam width",
            info="Identifiers that are followed at once: wider finds more, and takes longer.", elem_id="sc-beams",
        )  # fmt: skip
        verifier = gr.Dropdown(
            [(words, name) for name, words in search.verifiers.items()], value=AUTO, label="Verifier",
            info="Orders the ten best anew.", filterable=False, elem_id="sc-verifier",
        )  # fmt: skip
        prior = gr.Dropdown(
            [(words, name) for name, words in PRIORS.items()], value=FIT, label="Prior",
            info="How much of an identifier's own probability comes off its score.", filterable=False,
            elem_id="sc-prior",
        )  # fmt: skip
    return Controls(beams, verifier, prior)


def _picture() -> gr.Image:
    """Return the place to drop a picture at; what is dropped reaches the search as it is.

    gradio would decode it first, with an error of its own for what it cannot decode, and it would fetch the address
    that a forged request may have in place of a file.
    """
    picture = gr.Image(
        type="filepath", image_mode=None, sources=["upload", "clipboard"], buttons=[], height=260,
        label="Picture", placeholder="Drop a picture here, or click to choose one", elem_id="sc-picture",
    )  # fmt: skip
    move = picture.async_move_resource_to_block_cache

    async def move_file(path: str | Path | None) -> str | None:
        if path is not None and "://" in str(path):
            raise gr.Error("a picture has to be a file")
        return await move(path)

    picture.preprocess = lambda payload: None if payload is None else payload.path  # type: ignore[method-assign]
    picture.async_move_resource_to_block_cache = move_file  # type: ignore[method-assign, assignment]
    return picture


def _examples(values: list[str], component: Any) -> Any:
    """Show examples to fill a component with, and return the event of their choice; None without any."""
    if not values:
        return None
    shown = gr.Examples(
        [[value] for value in values], component, label="Examples from the run", cache_examples=False,
        api_visibility="private",
    )  # fmt: skip
    return shown.load_input_event
