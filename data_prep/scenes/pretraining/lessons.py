"""Lessons of reading, describing and naming: what the base checkpoint is taught (`courses.py` has their order)."""

from __future__ import annotations

import random
from dataclasses import replace

from data_prep.scenes.captions import Reading, describe, write_sentence, write_sentences
from data_prep.scenes.pretraining.classroom import Classroom
from data_prep.scenes.pretraining.marking import by_visual_token, mark_description, mark_quadrants
from data_prep.scenes.pretraining.shared_prefix import Exchange, Notes
from data_prep.scenes.scene_graph import Scene
from semcore.models.compatibility import IMAGE_CONTEXT
from semcore.models.prompts import IMAGE


def describe_image(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """One image: its description, and some sentences."""
    index = rng.randrange(len(room.pool.scenes))
    scene = room.pool.scenes[index]
    written = [
        room.exchange("sentence_of_image", text, [index], image=IMAGE)
        for text, _ in write_sentences(scene, num_sentences, rng)
    ]
    caption = room.exchange("caption", describe(scene), [index], image=IMAGE)
    return [replace(caption, notes=_where_to_look(room, caption, scene)), *written]


def read_sentences(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: what a sentence says in plain words."""
    exchanges = []
    for scene in rng.sample(room.pool.scenes, num_sentences):
        text, reading = write_sentence(scene, rng)
        exchanges.append(room.exchange("read_sentence", list_facts(reading), query=text))
    return exchanges


def write_alone(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: what sentences are like."""
    scenes = rng.sample(room.pool.scenes, num_sentences)
    return [room.exchange("sentence_alone", write_sentence(scene, rng)[0]) for scene in scenes]


def imagine(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: the description of a scene that a sentence was written of."""
    exchanges = []
    for scene in rng.sample(room.pool.scenes, num_sentences):
        text, _ = write_sentence(scene, rng)
        exchanges.append(room.exchange("imagine", describe(scene), query=text))
    return exchanges


def find_keywords(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: the keywords of the description of a scene that a sentence was written of."""
    return [
        room.exchange("keywords_t2i", " ".join(example.of_description), query=example.sentence)
        for example in rng.sample(room.keyword_examples, num_sentences)
    ]


def find_sentence_keywords(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """One image: the keywords of a sentence about it."""
    example = rng.choice(room.keyword_examples)
    return [room.exchange("keywords_i2t", " ".join(example.of_sentence), [example.scene], image=IMAGE)]


def locate(room: Classroom, rng: random.Random, num_questions: int) -> list[Exchange]:
    """One image: where is a thing of this colour and shape? Looking for what is named begins here."""
    index = rng.randrange(len(room.pool.scenes))
    objects = room.pool.scenes[index].objects
    asked = rng.sample(objects, min(num_questions, len(objects)))
    return [
        room.exchange("locate", item.place, [index], image=IMAGE, query=f"a {item.colour} {item.shape}")
        for item in asked
    ]


def _where_to_look(room: Classroom, caption: Exchange, scene: Scene) -> Notes:
    """Note that what writes of a thing is to look at its quadrant."""
    context = room.tokenizer.convert_tokens_to_ids(IMAGE_CONTEXT)
    visual = [place for place, token in enumerate(caption.prompt) if token == context]
    shows = dict(zip(visual, by_visual_token(mark_quadrants(scene), len(visual)), strict=True))
    description = mark_description(scene)
    spans = room.tokenizer(description.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    writers = {end: len(caption.prompt) - 1 + token for token, (_, end) in enumerate(spans)}
    return Notes(shows=shows, seeks={writers[end]: names for end, names in description.words.items()})


def list_facts(reading: Reading) -> str:
    """Say what a sentence states in the words of the full description."""
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
