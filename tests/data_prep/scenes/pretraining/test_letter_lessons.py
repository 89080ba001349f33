import random
import re

import pytest

from data_prep.scenes.captions import COLOUR_WORDS, SHAPE_WORDS, Reading, write_sentence
from data_prep.scenes.ideal_reader import posterior
from data_prep.scenes.pretraining.lesson_data import LessonData, ScenePool
from data_prep.scenes.pretraining.lesson_prompts import load_lesson_prompts
from data_prep.scenes.pretraining.letter_lessons import (
    choose_confusable_image,
    choose_confusable_sentence,
    choose_description,
    choose_either,
    choose_image,
    choose_sentence,
    choose_words,
    fits,
    sort_mentions,
    sort_words,
)
from data_prep.scenes.pretraining.marking import mark_description, mark_quadrants, mark_sentence
from data_prep.scenes.pretraining.model import VISUAL_TOKENS
from data_prep.scenes.pretraining.shared_prefix import merge
from data_prep.scenes.pretraining.visual_words import WORD_GROUPS, visual_words
from data_prep.scenes.scene_graph import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES
from semcore.models.checkpoint import load_tokenizer
from semcore.models.compatibility import IMAGE_START
from semcore.runtime.packaged_files import resource_folder


@pytest.fixture(scope="module")
def data():
    tokenizer = load_tokenizer(resource_folder("assets") / "scenes_base")
    prompts = load_lesson_prompts(resource_folder("prompts"), tokenizer.get_added_vocab())
    words = [*COLOURS, *SHAPES, *SIZES, *BACKGROUNDS, "the", "of", "and", "in", "to", "was", "he", "is", "as", "for"]
    return LessonData(tokenizer, prompts, ScenePool(12, seed=3), [], words, VISUAL_TOKENS)


def said(data, exchange):
    """The tokens of a prompt that have a hint, beside the hint, in words."""
    word = data.tokenizer.decode
    return [(word(exchange.prompt[place]).strip(), word(hint)) for place, hint in sorted(exchange.notes.hints.items())]


def lines(data, exchange):
    return data.tokenizer.decode(exchange.prompt).replace("<IMG_CONTEXT>", "").splitlines()


def test_some_words_of_a_candidate_ask_for_its_letter(data):
    for exchange in choose_words(data, random.Random(0), 4):
        text = lines(data, exchange)
        (letter,) = data.tokenizer.decode(exchange.answer)
        (candidate,) = [line for line in text if line.startswith(f"{letter}. ")]
        (query,) = [line for line in text if line.startswith("Sentence: ")]
        assert set(re.findall(r"\w+", query)[1:]) <= set(re.findall(r"\w+", candidate))


def test_each_sorted_word_says_its_candidates_letter(data):
    (exchange,) = sort_words(data, random.Random(0), 5)
    candidates = [line for line in lines(data, exchange) if re.match("[A-E]\\. ", line)]
    letter_of = {word: line[0] for line in candidates for word in re.findall(r"\w+", line)[2:]}
    queries = dict(said(data, exchange)[-len(letter_of) :])
    assert queries == letter_of
    assert exchange.answer == []


def shows(scene, mention):
    return any(
        any(word in mention for word in COLOUR_WORDS.get(thing.colour, (thing.colour,)))
        and any(word in mention for word in SHAPE_WORDS.get(thing.shape, (thing.shape,)))
        for thing in scene.objects
    )


def test_each_mention_says_the_letter_of_the_only_image_that_shows_it(data):
    (exchange,) = sort_mentions(data, random.Random(1), 4)
    scenes = [data.pool.scenes[index] for index in exchange.images]
    (query,) = [line for line in lines(data, exchange) if line.startswith("Sentence: ")]
    mentions = query.removeprefix("Sentence: ").removesuffix(".").split(", ")
    behind = max(exchange.notes.early_hints)
    letters = [data.tokenizer.decode(hint) for place, hint in sorted(exchange.notes.hints.items()) if place > behind]
    shown_by = [
        "".join(letter for letter, scene in zip("ABCD", scenes, strict=True) if shows(scene, m)) for m in mentions
    ]
    assert letters == shown_by and len(letters) > 4


@pytest.mark.parametrize("lesson", [choose_image, choose_description, choose_either])
def test_a_sentence_asks_for_the_scene_it_fits(data, lesson):
    for exchange in lesson(data, random.Random(2), 3):
        letter = data.tokenizer.decode(exchange.answer)
        behind = max(exchange.notes.early_hints)
        queries = {data.tokenizer.decode(hint) for place, hint in exchange.notes.hints.items() if place > behind}
        assert queries == {letter}
        for place, letter_id in exchange.notes.early_hints.items():
            start = max(p for p in range(place) if data.tokenizer.decode(exchange.prompt[p]) in "ABC")
            assert letter_id == exchange.prompt[start]
        found = merge([exchange], data.tokenizer.convert_tokens_to_ids(IMAGE_START)).lookups
        assert found
        right = {place for place, hint in exchange.notes.early_hints.items() if hint == exchange.answer[0]}
        assert all(right & set(targets) for _, targets, _ in found)


def test_an_image_asks_for_the_only_sentence_that_fits_it(data):
    for exchange in choose_sentence(data, random.Random(3), 4):
        (index,) = exchange.images
        text = [line for line in lines(data, exchange) if re.match("[A-D]\\. ", line)]
        letter = data.tokenizer.decode(exchange.answer)
        scene = data.pool.scenes[index]
        (right,) = [line for line in text if line.startswith(f"{letter}. ")]
        mentioned = [o for o in scene.objects if shows_alone(o, right)]
        assert mentioned
        start = data.tokenizer.convert_tokens_to_ids(IMAGE_START)
        visual = {place for place, _, _ in merge([exchange], start).lookups}
        assert len(visual) >= VISUAL_TOKENS // 4  # a quadrant, at the least, looks at its words


def shows_alone(thing, text):
    return any(word in text for word in SHAPE_WORDS.get(thing.shape, (thing.shape,)))


def test_a_word_is_about_all_that_was_said_up_to_it():
    reading = Reading(({"colour": "pink", "shape": "ring"}, {"shape": "cross", "place": "upper left"}), relation="left")
    text = "a pink hoop left of a plus sign at the top left."
    marked = mark_sentence(text, reading)
    assert [(text[:end].split()[-1], names) for end, names in marked.words.items()] == [
        ("pink", (("pink",),)),
        ("hoop", (("pink", "ring"),)),
        ("sign", (("cross",),)),
        ("left", (("cross", "upper left"),)),
    ]


def test_whatever_is_written_of_a_scene_is_shown_by_its_description_and_its_image(data):
    rng = random.Random(4)
    for scene in data.pool.scenes:
        text, reading = write_sentence(scene, rng)
        sought = {name for names in mark_sentence(text, reading).words.values() for name in names}
        assert len(mark_sentence(text, reading).words) >= len(reading.mentions)
        assert sought <= {name for names in mark_description(scene).words.values() for name in names}
        assert sought <= {name for names in mark_quadrants(scene) for name in names}
        assert fits(reading, scene)


def test_a_visual_token_says_what_its_quadrant_shows(data):
    scene = data.pool.scenes[0]
    rows = visual_words(scene, VISUAL_TOKENS)
    corners = {"upper left": 0, "upper right": 3, "lower left": 12, "lower right": 15}
    assert corners.keys() == set(PLACES)
    for place, token in corners.items():
        words = {group[word] for group, word in zip(WORD_GROUPS, rows[token], strict=True) if word < len(group)}
        (thing,) = [o for o in scene.objects if o.place == place] or [None]
        shown = {thing.size, thing.colour, thing.shape, *place.split()} if thing else set()
        assert words == {*shown, scene.background}


def test_similar_scenes_share_a_thing_and_two_are_of_one_family():
    pool = ScenePool(200, seed=4)
    for seed in range(20):
        drawn = pool.draw_similar(6, random.Random(seed))
        assert len(set(drawn)) == 6
        families = [index // 4 for index in drawn]
        assert len(set(families)) < 6
        looks = [{(thing.colour, thing.shape) for thing in pool.scenes[index].objects} for index in drawn]
        assert any(sum(bool(own & other) for other in looks) >= 5 for own in looks)


def test_confusable_scenes_share_more_words_than_random_ones():
    pool = ScenePool(200, seed=4)

    def shared(drawn):
        words = [
            {word for thing in pool.scenes[index].objects for word in (thing.colour, thing.shape)} for index in drawn
        ]
        return max(sum(len(own & other) for other in words) for own in words)

    for seed in range(20):
        drawn = pool.draw_confusable(10, random.Random(seed))
        assert len(set(drawn)) == 10
        assert shared(drawn) > shared(pool.draw_any(10, random.Random(seed)))


@pytest.mark.parametrize("lesson", [choose_confusable_image, choose_confusable_sentence])
def test_of_confusable_candidates_the_ideal_reader_picks_the_answer(data, monkeypatch, lesson):
    """Read the readings that a lesson wrote, and compare its answers with those of all candidates."""
    readings = {}

    def note(scene, rng):
        text, reading = write_sentence(scene, rng)
        readings[text] = reading
        return text, reading

    monkeypatch.setattr("data_prep.scenes.pretraining.letter_lessons.write_sentence", note)
    for seed in range(8):
        for exchange in lesson(data, random.Random(seed), 6):
            answer = "ABCDEF".index(data.tokenizer.decode(exchange.answer))
            scenes = [data.pool.scenes[index] for index in exchange.images]
            text = lines(data, exchange)
            if lesson is choose_confusable_image:
                (query,) = [line.removeprefix("Sentence: ") for line in text if line.startswith("Sentence: ")]
                chances = posterior([readings[query]], scenes)[0]
            else:
                shown = [line.split("Sentence: ")[-1] for line in text if re.match("[A-F]\\. ", line)]
                own = [next(written for written in readings if written in line) for line in shown]
                chances = posterior([readings[sentence] for sentence in own], scenes)[:, 0]
            assert [place for place, chance in enumerate(chances) if chance == max(chances)] == [answer]
