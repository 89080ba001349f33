import random
import re

import pytest
from keybert import KeyBERT
from sentence_transformers import SentenceTransformer

from data_prep.scenes.captions import Reading, describe, parse_description
from data_prep.scenes.pretraining.courses import COURSES, LESSONS, NAME_THINGS, Lessons, Term
from data_prep.scenes.pretraining.keywords import NUM_KEYWORDS, write_examples
from data_prep.scenes.pretraining.lesson_data import LessonData, ScenePool
from data_prep.scenes.pretraining.lesson_prompts import load_lesson_prompts
from data_prep.scenes.pretraining.lessons import list_facts
from data_prep.scenes.pretraining.model import VISUAL_TOKENS
from data_prep.scenes.pretraining.shared_prefix import merge
from data_prep.scenes.scene_graph import COLOURS, SHAPES, draw_scenes
from semcore.identifiers.sentence_encoder import encoder_folder
from semcore.models.checkpoint import load_tokenizer
from semcore.models.compatibility import IMAGE_START
from semcore.runtime.packaged_files import resource_folder


@pytest.fixture(scope="module")
def data():
    tokenizer = load_tokenizer(resource_folder("assets") / "scenes_base")
    prompts = load_lesson_prompts(resource_folder("prompts"), tokenizer.get_added_vocab())
    pool = ScenePool(8, seed=3)
    examples = write_examples(pool.scenes, 12, seed=3)
    words = [*COLOURS, *SHAPES, "the", "of", "and", "in", "to", "was", "he", "is", "as", "for", "on", "with"]
    return LessonData(tokenizer, prompts, pool, examples, words, VISUAL_TOKENS)


def say(data, lesson, number, seed=0):
    """What a lesson asks and answers, in words."""
    exchanges = LESSONS[lesson](data, random.Random(seed), number)
    return [(data.tokenizer.decode(one.prompt), data.tokenizer.decode(one.answer), one.images) for one in exchanges]


def answer_of(text):
    return text.removesuffix("<|im_end|>")


def test_describing_tells_what_is_in_the_image(data):
    (_, caption, (image,)), *sentences = say(data, "describe_image", 2)
    assert answer_of(caption) == describe(data.pool.scenes[image])
    assert all(images == (image,) for _, _, images in sentences)


def test_what_writes_of_a_thing_looks_at_its_quadrant(data):
    (exchange,) = LESSONS["describe_image"](data, random.Random(0), 0)
    scene = data.pool.scenes[exchange.images[0]]
    row = merge([exchange], data.tokenizer.convert_tokens_to_ids(IMAGE_START))
    first = row.input_ids.index(data.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"))
    for thing in scene.objects:
        down, right = thing.place.startswith("lower"), thing.place.endswith("right")
        corner = first + 15 * (down and right) + 12 * (down and not right) + 3 * (right and not down)
        written = {
            data.tokenizer.decode(row.input_ids[place + 1]).strip() for place, own, _ in row.lookups if corner in own
        }
        assert written == {"a", thing.size, thing.colour, thing.shape, "in", "the", *thing.place.split()}
    assert all(of_answer for _, _, of_answer in row.lookups)


def test_locating_asks_for_a_thing_that_is_there(data):
    for prompt, place, (image,) in say(data, "locate", 3):
        colour, shape = re.search(r"Where is a (\w+) (\w+)\?", prompt).groups()
        (item,) = [o for o in data.pool.scenes[image].objects if (o.colour, o.shape) == (colour, shape)]
        assert answer_of(place) == item.place


def test_facts_are_a_sentence_in_plain_words():
    reading = Reading(
        ({"colour": "orange", "shape": "ring"}, {"size": "small", "shape": "moon", "place": "upper left"}),
        relation="above",
        background="gray",
    )
    assert list_facts(reading) == "an orange ring above a small moon in the upper left, on a gray background."


def test_imagining_answers_with_a_description(data):
    for _, answer, _ in say(data, "imagine", 3):
        slots, background = parse_description(answer_of(answer))
        assert slots and background


def test_keywords_are_keyberts():
    scenes = draw_scenes(6, random.Random(1), pool="pretraining")
    examples = write_examples(scenes, 6, seed=1)
    keybert = KeyBERT(SentenceTransformer(str(encoder_folder("all-MiniLM-L6-v2"))))
    for example in examples:
        for text, found in (
            (describe(scenes[example.scene]), example.of_description),
            (example.sentence, example.of_sentence),
        ):
            theirs = dict(keybert.extract_keywords(text, top_n=50, stop_words="english"))
            assert [theirs[word] for word in found] == sorted(theirs.values(), reverse=True)[:NUM_KEYWORDS]


def test_every_lesson_of_the_courses_makes_batches(data):
    names = {name for course in COURSES for term in course.terms for name in term.lessons}
    assert {name.partition(":")[0] for name in names} <= {*LESSONS, NAME_THINGS}
    for name in names:
        batch = Lessons(data, [Term(1, {name: (1.0, 2)})], 0).batch(Term(1, {name: (1.0, 2)}), random.Random(1))
        if "input_ids" in batch:
            assert any((batch[column] >= 0).any() for column in ("labels", "hints"))
        if "input_ids" in batch and "pixel_values" in batch:
            context = data.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
            assert (batch["input_ids"] == context).sum() == VISUAL_TOKENS * len(batch["pixel_values"])


def test_a_seed_gives_the_same_batches_from_any_step_on(data):
    terms = [Term(4, {"imagine:2": (0.5, 2), "read_sentences:2": (0.5, 2)})]
    whole, later = list(Lessons(data, terms, 5)), list(Lessons(data, terms, 5, first_batch=2))
    assert len(whole) == 4
    assert [batch["input_ids"].tolist() for batch in whole[2:]] == [batch["input_ids"].tolist() for batch in later]
