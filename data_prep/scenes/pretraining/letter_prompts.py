"""Prompts that ask for a candidate's letter, with notes of what each of their tokens is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_prep.scenes.pretraining.classroom import Classroom
from data_prep.scenes.pretraining.marking import MarkedText, Names, by_visual_token, mark_quadrants
from data_prep.scenes.pretraining.shared_prefix import Exchange, Notes
from semcore.models.compatibility import IMAGE_CONTEXT
from semcore.models.prompts import IMAGE
from semcore.models.tokenization import tokenize

LETTERS = "ABCDEFGHIJ"
NO_TEXT = MarkedText("", {})


@dataclass(frozen=True)
class Item:
    """A candidate or a query: a picture of the pool or a text, and a candidate's keywords."""

    image: int | None = None
    text: MarkedText = NO_TEXT
    keywords: MarkedText = NO_TEXT


@dataclass(frozen=True)
class Question:
    """A question for a candidate's letter.

    Attributes:
        prompt: the prompt's name, `verify_t2i` or `verify_i2t`.
        candidates: in the order of their letters.
        query: what one of them fits.
        answer: the place of the right candidate; none where only the query's own words are asked about.
        word_answers: by the end of a word of the query, the place of that word's candidate; where there are none, all
            of the query is to know the answer.
    """

    prompt: str
    candidates: Sequence[Item]
    query: Item
    answer: int | None
    word_answers: Mapping[int, int] = field(default_factory=dict)


def ask(room: Classroom, question: Question) -> Exchange:
    """Put a question into tokens, with its notes."""
    images = [item.image for item in (*question.candidates, question.query) if item.image is not None]
    text = room.prompt_text(question.prompt, len(images), **_variables(question))
    prompt = _NotedPrompt(room, text)
    for position, candidate in enumerate(question.candidates):
        prompt.note_candidate(position, candidate)
    prompt.note_query(question)
    answer = [] if question.answer is None else [prompt.letters[question.answer]]
    return Exchange(prompt.ids, answer, tuple(images), prompt.notes)


class _NotedPrompt:
    """A prompt's tokens, and notes on them: its parts are found in its text one after the other."""

    def __init__(self, room: Classroom, text: str):
        encoding = room.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        self.text, self.ids, self.cursor = text, encoding["input_ids"], 0
        spans = enumerate(encoding["offset_mapping"])
        self.token_at = [token for token, (start, end) in spans for _ in range(start, end)]
        self.letters = [tokenize(room.tokenizer, letter)[0] for letter in LETTERS]
        context = room.tokenizer.convert_tokens_to_ids(IMAGE_CONTEXT)
        self.visual = [token for token, token_id in enumerate(self.ids) if token_id == context]
        self.num_visual_tokens = room.num_visual_tokens
        self.scenes = room.pool.scenes
        self.notes = Notes({}, {}, {}, {})

    def note_candidate(self, position: int, item: Item) -> None:
        """Each token after the candidate's letter is to know the letter, and shows what it is about."""
        start = self.find(f"\n{LETTERS[position]}. ") + len("\nA.")
        self.cursor = start
        self.notes.shows.update(self.names(item))
        self.notes.shows.update(self.names(Item(text=item.keywords)))
        own = set(self.token_at[start : self.text.index("\n", self.cursor) + 1])
        self.notes.early_hints.update(dict.fromkeys(own, self.letters[position]))
        self.notes.hints.update(dict.fromkeys(own, self.letters[position]))

    def note_query(self, question: Question) -> None:
        """What the query names is sought, and its tokens are to know the right letter."""
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
        """Return what an item's tokens are about; the cursor moves behind its text."""
        if item.image is not None:
            own, self.visual = self.visual[: self.num_visual_tokens], self.visual[self.num_visual_tokens :]
            return dict(zip(own, by_visual_token(mark_quadrants(self.scenes[item.image]), len(own)), strict=True))
        start = self.find(item.text.text)
        self.cursor = start + len(item.text.text)
        return {self.token_at[start + end - 1]: names for end, names in item.text.words.items()}

    def find(self, part: str) -> int:
        """Return where the next such part begins."""
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
