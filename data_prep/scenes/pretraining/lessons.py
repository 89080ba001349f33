"""Lessons of reading, describing and naming (`courses.py` has their order)."""

from __future__ import annotations

import random
from dataclasses import replace

from data_prep.scenes.captions import Reading, describe, write_sentence, write_sentences
from data_prep.scenes.pretraining.lesson_data import LessonData
from data_prep.scenes.pretraining.marking import by_visual_token, mark_description, mark_quadrants
from data_prep.scenes.pretraining.shared_prefix import Exchange, Notes
from data_prep.scenes.scene_graph import Scene
from semcore.models.compatibility import IMAGE_CONTEXT
from semcore.models.prompts import IMAGE


def describe_image(data: LessonData, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """One image: its description, and some sentences."""
    index = rng.randrange(len(data.pool.scenes))
    scene = data.pool.scenes[index]
    written = [
        data.exchange("sentence_of_image", text, [index], image=IMAGE)
        for text, _ in write_sentences(scene, num_sentences, rng)
    ]
    caption = data.exchange("caption", describe(scene), [index], image=IMAGE)
    return [replace(caption, notes=_where_to_look(data, caption, scene)), *written]


def read_sentences(data: LessonData, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: the facts that a sentence states, in plain words."""
    exchanges = []
    for scene in rng.sample(data.pool.scenes, num_sentences):
        text, reading = write_sentence(scene, rng)
        exchanges.append(data.exchange("read_sentence", list_facts(reading), query=text))
    return exchanges


def write_alone(data: LessonData, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: sentences without an image, as a prior."""
    scenes = rng.sample(data.pool.scenes, num_sentences)
    return [data.exchange("sentence_alone", write_sentence(scene, rng)[0]) for scene in scenes]


def imagine(data: LessonData, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: the description of the scene behind a sentence."""
    exchanges = []
    for scene in rng.sample(data.pool.scenes, num_sentences):
        text, _ = write_sentence(scene, rng)
        exchanges.append(data.exchange("imagine", describe(scene), query=text))
    return exchanges


def find_keywords(data: LessonData, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: the keywords of the description of the scene behind a sentence."""
    return [
        data.exchange("keywords_t2i", " ".join(example.of_description), query=example.sentence)
        for example in rng.sample(data.keyword_examples, num_sentences)
    ]


def find_sentence_keywords(data: LessonData, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """One image: the keywords of a sentence about it."""
    example = rng.choice(data.keyword_examples)
    return [data.exchange("keywords_i2t", " ".join(example.of_sentence), [example.scene], image=IMAGE)]


def locate(data: LessonData, rng: random.Random, num_questions: int) -> list[Exchange]:
    """One image: the quadrant of a thing of given colour and shape; attention from name to image begins here."""
    index = rng.randrange(len(data.pool.scenes))
    objects = data.pool.scenes[index].objects
    targets = rng.sample(objects, min(num_questions, len(objects)))
    return [
        data.exchange("locate", item.place, [index], image=IMAGE, query=f"a {item.colour} {item.shape}")
        for item in targets
    ]


def _where_to_look(data: LessonData, caption: Exchange, scene: Scene) -> Notes:
    """Note that tokens about a thing are to attend to its quadrant."""
    context = data.tokenizer.convert_tokens_to_ids(IMAGE_CONTEXT)
    visual = [place for place, token in enumerate(caption.prompt) if token == context]
    shows = dict(zip(visual, by_visual_token(mark_quadrants(scene), len(visual)), strict=True))
    description = mark_description(scene)
    spans = data.tokenizer(description.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    writers = {end: len(caption.prompt) - 1 + token for token, (_, end) in enumerate(spans)}
    return Notes(shows=shows, seeks={writers[end]: names for end, names in description.words.items()})


def list_facts(reading: Reading) -> str:
    """State a sentence's facts in the words of the full description."""
    facts = []
    for mention in reading.mentions:
        words = [mention[name] for name in ("size", "colour", "shape") if name in mention]
        article = "an" if words[0][0] in "aeiou" else "a"
        facts.append(f"{article} {' '.join(words)}" + (f" in the {mention['place']}" if "place" in mention else ""))
    if reading.relation:
        relation = reading.relation + (" of" if reading.relation in ("left", "right") else "")
        facts[:2] = [f"{facts[0]} {relation} {facts[1]}"]
    if reading.background:
        facts.append(f"on a {reading.background} background")
    return ", ".join(facts) + "."
