"""Prompts that ask for a candidate's letter, with notes on what each token is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_prep.scenes.pretraining.lesson_data import LessonData
from data_prep.scenes.pretraining.marking import MarkedText, Names, by_visual_token, mark_quadrants
from data_prep.scenes.pretraining.shared_prefix import Exchange, Notes
from semcore.models.compatibility import IMAGE_CONTEXT
from semcore.models.prompts import IMAGE
from semcore.models.tokenization import tokenize

LETTERS = "ABCDEFGHIJ"
NO_TEXT = MarkedText("", {})


@dataclass(frozen=True)
class Item:
    """A candidate or a query: an image of the pool or a text, and a candidate's keywords."""

    image: int | None = None
    text: MarkedText = NO_TEXT
    keywords: MarkedText = NO_TEXT


@dataclass(frozen=True)
class Question:
    """A question for a candidate's letter.

    Attributes:
        prompt: the prompt's name, `verify_t2i` or `verify_i2t`.
        candidates: in the order of their letters.
        query: the sentence, image or words that one candidate fits.
        answer: index of the relevant candidate; None where the query's words have an answer each.
        word_answers: end of a word in the query -> index of that word's candidate; where empty, every token of the
            query predicts the answer.
    """

    prompt: str
    candidates: Sequence[Item]
    query: Item
    answer: int | None
    word_answers: Mapping[int, int] = field(default_factory=dict)


def tokenize_question(data: LessonData, question: Question) -> Exchange:
    """Tokenize a question, with its notes."""
    images = [item.image for item in (*question.candidates, question.query) if item.image is not None]
    text = data.prompt_text(question.prompt, len(images), **_variables(question))
    prompt = _NotedPrompt(data, text)
    for position, candidate in enumerate(question.candidates):
        prompt.note_candidate(position, candidate)
    prompt.note_query(question)
    answer = [] if question.answer is None else [prompt.letters[question.answer]]
    return Exchange(prompt.ids, answer, tuple(images), prompt.notes)


class _NotedPrompt:
    """A prompt's tokens and notes on them; its segments are found in its text one after the other."""

    def __init__(self, data: LessonData, text: str):
        encoding = data.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        self.text, self.ids, self.cursor = text, encoding["input_ids"], 0
        spans = enumerate(encoding["offset_mapping"])
        self.token_at = [token for token, (start, end) in spans for _ in range(start, end)]
        self.letters = [tokenize(data.tokenizer, letter)[0] for letter in LETTERS]
        context = data.tokenizer.convert_tokens_to_ids(IMAGE_CONTEXT)
        self.visual = [token for token, token_id in enumerate(self.ids) if token_id == context]
        self.num_visual_tokens = data.num_visual_tokens
        self.scenes = data.pool.scenes
        self.notes = Notes({}, {}, {}, {})

    def note_candidate(self, position: int, item: Item) -> None:
        """Note that each token after a candidate's letter predicts the letter, and what it shows."""
        start = self.find(f"\n{LETTERS[position]}. ") + len("\nA.")
        self.cursor = start
        self.notes.shows.update(self.names(item))
        self.notes.shows.update(self.names(Item(text=item.keywords)))
        own = set(self.token_at[start : self.text.index("\n", self.cursor) + 1])
        self.notes.early_hints.update(dict.fromkeys(own, self.letters[position]))
        self.notes.hints.update(dict.fromkeys(own, self.letters[position]))

    def note_query(self, question: Question) -> None:
        """Note what the query's tokens seek, and that they predict the answer's letter."""
        names = self.names(question.query)
        self.notes.seeks.update(names)
        answers: dict[int, int] = {}
        if question.word_answers:
            start = self.cursor - len(question.query.text.text)
            answers = {self.token_at[start + end - 1]: place for end, place in question.word_answers.items()}
        elif question.answer is not None:
            answers = dict.fromkeys(range(min(names), max(names) + 1), question.answer)
        self.notes.hints.update({token: self.letters[place] for token, place in answers.items()})

    def names(self, item: Item) -> dict[int, Names]:
        """Return the names of what an item's tokens are about, and move the cursor behind its text."""
        if item.image is not None:
            own, self.visual = self.visual[: self.num_visual_tokens], self.visual[self.num_visual_tokens :]
            return dict(zip(own, by_visual_token(mark_quadrants(self.scenes[item.image]), len(own)), strict=True))
        start = self.find(item.text.text)
        self.cursor = start + len(item.text.text)
        return {self.token_at[start + end - 1]: names for end, names in item.text.words.items()}

    def find(self, part: str) -> int:
        """Return the index at which the next such segment begins."""
        return self.text.index(part, self.cursor)


def _variables(question: Question) -> dict[str, Any]:
    candidates = [
        {
            "label": letter,
            "image": item.text.text if item.image is None else IMAGE,
            "sentence": item.text.text,
            "keywords": item.keywords.text,
        }
        for letter, item in zip(LETTERS, question.candidates, strict=False)
    ]
    query = question.query
    return {"candidates": candidates} | ({"query": query.text.text} if query.image is None else {"image": IMAGE})
