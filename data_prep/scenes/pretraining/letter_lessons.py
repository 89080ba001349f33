"""Lessons in choosing one of several candidates by its letter.

Many questions share the same candidates, and each has auxiliary targets (`letter_prompts.py`): every token of a
candidate predicts the candidate's letter, every token of a query the answer's, and attention goes from what a query
names to the tokens that show it. Without them a model of this size stays at chance (LOG.md).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from data_prep.scenes.captions import Reading, write_sentence
from data_prep.scenes.ideal_reader import posterior
from data_prep.scenes.pretraining.lesson_data import LessonData
from data_prep.scenes.pretraining.letter_prompts import Item, Question, tokenize_question
from data_prep.scenes.pretraining.marking import MarkedText, Names, mark_description, mark_mention, mark_sentence
from data_prep.scenes.pretraining.shared_prefix import Exchange
from data_prep.scenes.scene_graph import Scene

NUM_QUESTIONS = 8
KEYWORDS_SHARE = 0.3
NUM_TRIES = 6  # draws of a sentence that fits one candidate alone
MORE_TRIES = 10  # where candidates share most of their words


def sort_words(data: LessonData, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Text alone: the words of all candidates in random order; each predicts its candidate's letter."""
    candidates = _draw_words(data, rng, num_candidates, most=3)
    words = [(word, place) for place, own in enumerate(candidates) for word in own]
    rng.shuffle(words)
    return [_ask_about_words(data, candidates, words, None)]


def choose_words(data: LessonData, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Text alone: some of a candidate's words; which candidate?"""
    candidates = _draw_words(data, rng, num_candidates, most=4)
    exchanges = []
    for place in rng.choices(range(num_candidates), k=NUM_QUESTIONS):
        own = candidates[place]
        words = rng.sample(own, rng.randint((len(own) + 1) // 2, len(own)))
        exchanges.append(_ask_about_words(data, candidates, [(word, place) for word in words], place))
    return exchanges


def choose_image(data: LessonData, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Several images and a sentence that fits one of them: which?"""
    return _ask_for_scene(data, rng, data.pool.draw_any(num_candidates, rng), describe_share=0.0)


def choose_similar_image(data: LessonData, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Several images that share things and a sentence that fits one of them: which?"""
    return _ask_for_scene(data, rng, data.pool.draw_similar(num_candidates, rng), describe_share=0.0)


def choose_description(data: LessonData, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Text alone: descriptions in the images' places and a sentence that fits one of them: which?"""
    return _ask_for_scene(data, rng, data.pool.draw_any(num_candidates, rng), describe_share=1.0)


def choose_either(data: LessonData, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Images and descriptions side by side and a sentence that fits one of them: which?"""
    return _ask_for_scene(data, rng, data.pool.draw_any(num_candidates, rng), describe_share=0.5)


def sort_mentions(data: LessonData, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Several images and things that only one of them shows, in random order; each predicts its image's letter."""
    scenes = _scenes(data, data.pool.draw_any(num_candidates, rng))
    looks = [(thing.colour, thing.shape) for _, scene in scenes for thing in scene.objects]
    things = [(thing, place) for place, (_, scene) in enumerate(scenes) for thing in scene.objects]
    things = [(thing, place) for thing, place in things if looks.count((thing.colour, thing.shape)) == 1]
    if not things:
        return sort_mentions(data, rng, num_candidates)
    rng.shuffle(things)
    text, words, answers = "", {}, {}
    for thing, place in things:
        mention = mark_mention(thing, rng)
        words.update({len(text) + end: names for end, names in mention.words.items()})
        answers[len(text) + len(mention.text)] = place
        text += f"{mention.text}, "
    query = Item(text=MarkedText(text.removesuffix(", ") + ".", words))
    return [tokenize_question(data, Question("verify_t2i", _show(data, rng, scenes, 0.0), query, None, answers))]


def choose_sentence(data: LessonData, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Several sentences and an image that only one of them fits: which?"""
    return _ask_for_sentence(data, rng, data.pool.draw_any(num_candidates, rng)) or choose_sentence(
        data, rng, num_candidates
    )


def choose_similar_sentence(data: LessonData, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Several sentences of scenes that share things and an image that only one of them fits: which?"""
    return _ask_for_sentence(data, rng, data.pool.draw_similar(num_candidates, rng)) or choose_similar_sentence(
        data, rng, num_candidates
    )


def choose_confusable_image(data: LessonData, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Several images that share most words and a sentence that, read ideally, one of them fits best: which?"""
    chosen = _scenes(data, data.pool.draw_confusable(num_candidates, rng))
    candidates, scenes = _show(data, rng, chosen, describe_share=0.0), [scene for _, scene in chosen]
    exchanges: list[Exchange] = []
    for place in rng.sample(range(len(scenes)), len(scenes)):
        if len(exchanges) < NUM_QUESTIONS and (query := _write_telling(scenes, place, rng)):
            exchanges.append(tokenize_question(data, Question("verify_t2i", candidates, Item(text=query), place)))
    return exchanges or choose_confusable_image(data, rng, num_candidates)


def choose_confusable_sentence(data: LessonData, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Several sentences of images that share most words, and an image that, read ideally, one of them fits: which?"""
    chosen = _scenes(data, data.pool.draw_confusable(num_candidates, rng))
    written = [write_sentence(scene, rng) for _, scene in chosen]
    candidates = _show_sentences(written, rng)
    fitting = posterior([reading for _, reading in written], [scene for _, scene in chosen]) > 0
    exchanges: list[Exchange] = []
    for place in rng.sample(range(len(chosen)), len(chosen)):
        if len(exchanges) < NUM_QUESTIONS and fitting[:, place].sum() == 1:
            query = Item(image=chosen[place][0])
            exchanges.append(tokenize_question(data, Question("verify_i2t", candidates, query, place)))
    return exchanges or choose_confusable_sentence(data, rng, num_candidates)


def _write_telling(scenes: Sequence[Scene], place: int, rng: random.Random) -> MarkedText | None:
    """Write a sentence that fits a scene better than any other, if one is found."""
    for _ in range(MORE_TRIES):
        text, reading = write_sentence(scenes[place], rng)
        chances = posterior([reading], scenes)[0]
        if (chances >= chances[place]).sum() == 1:
            return mark_sentence(text, reading)
    return None


def _ask_for_sentence(data: LessonData, rng: random.Random, chosen: Sequence[int]) -> list[Exchange]:
    """Return a question for each image that only its own sentence fits, possibly none."""
    scenes = _scenes(data, chosen)
    written = [write_sentence(scene, rng) for _, scene in scenes]
    candidates = _show_sentences(written, rng)
    exchanges = []
    for place in rng.sample(range(len(scenes)), min(len(scenes), NUM_QUESTIONS)):
        index, scene = scenes[place]
        if not any(fits(reading, scene) for other, (_, reading) in enumerate(written) if other != place):
            exchanges.append(tokenize_question(data, Question("verify_i2t", candidates, Item(image=index), place)))
    return exchanges


def fits(reading: Reading, scene: Scene) -> bool:
    """Return whether a scene has all objects that a sentence mentions; relation, background and count are ignored."""
    return all(
        any(all(getattr(thing, detail) == value for detail, value in mention.items()) for thing in scene.objects)
        for mention in reading.mentions
    )


def _ask_for_scene(
    data: LessonData, rng: random.Random, chosen: Sequence[int], describe_share: float
) -> list[Exchange]:
    scenes = _scenes(data, chosen)
    candidates = _show(data, rng, scenes, describe_share)
    exchanges = []
    for place in rng.choices(range(len(scenes)), k=NUM_QUESTIONS):
        others = [scene for other, (_, scene) in enumerate(scenes) if other != place]
        query = Item(text=_write_for_one(scenes[place][1], others, rng))
        exchanges.append(tokenize_question(data, Question("verify_t2i", candidates, query, place)))
    return exchanges


def _write_for_one(scene: Scene, others: Sequence[Scene], rng: random.Random) -> MarkedText:
    """Write a sentence that fits a scene and, if one is found, none of the others."""
    for _ in range(NUM_TRIES):
        text, reading = write_sentence(scene, rng)
        if not any(fits(reading, other) for other in others):
            break
    return mark_sentence(text, reading)


def _scenes(data: LessonData, chosen: Sequence[int]) -> list[tuple[int, Scene]]:
    return [(index, data.pool.scenes[index]) for index in chosen]


def _show(
    data: LessonData, rng: random.Random, scenes: Sequence[tuple[int, Scene]], describe_share: float
) -> list[Item]:
    """Make candidates of scenes: images or descriptions, with some of their keywords or none at all."""
    shown = rng.random() < KEYWORDS_SHARE
    items = []
    for index, scene in scenes:
        keywords = MarkedText(_some_words(scene, rng) if shown else "", {})
        described = rng.random() < describe_share
        items.append(
            Item(text=mark_description(scene), keywords=keywords) if described else Item(index, keywords=keywords)
        )
    return items


def _show_sentences(written: Sequence[tuple[str, Reading]], rng: random.Random) -> list[Item]:
    """Make candidates of sentences, with the keywords of all or of none."""
    shown = rng.random() < KEYWORDS_SHARE
    return [
        Item(text=mark_sentence(text, reading), keywords=MarkedText(_said_words(reading) if shown else "", {}))
        for text, reading in written
    ]


def _some_words(scene: Scene, rng: random.Random) -> str:
    words = list(dict.fromkeys(word for thing in scene.objects for word in (thing.colour, thing.shape)))
    return " ".join(rng.sample([*words, scene.background], min(len(words), rng.randint(3, 5))))


def _said_words(reading: Reading) -> str:
    said = [mention[detail] for mention in reading.mentions for detail in ("colour", "shape") if detail in mention]
    return " ".join(dict.fromkeys(said))


def _draw_words(data: LessonData, rng: random.Random, num_candidates: int, most: int) -> list[list[str]]:
    """Draw up to `most` words per candidate, without repetition."""
    counts = [rng.randint(1, most) for _ in range(num_candidates)]
    words = iter(rng.sample(data.words, sum(counts)))
    return [[next(words) for _ in range(count)] for count in counts]


def _ask_about_words(
    data: LessonData, candidates: Sequence[Sequence[str]], query_words: Sequence[tuple[str, int]], answer: int | None
) -> Exchange:
    """Make the question of which candidate has these words."""
    items = [Item(keywords=_mark_words([(word, place) for word in own])) for place, own in enumerate(candidates)]
    query = _mark_words(query_words)
    places = [place for _, place in query_words]
    word_answers = dict(zip(query.words, places, strict=True)) if answer is None else {}
    return tokenize_question(data, Question("verify_t2i", items, Item(text=query), answer, word_answers))


def _mark_words(words: Sequence[tuple[str, int]]) -> MarkedText:
    text = ""
    marks: dict[int, Names] = {}
    for word, place in words:
        text = f"{text} {word}".lstrip()
        marks[len(text)] = (place,)
    return MarkedText(text, marks)
