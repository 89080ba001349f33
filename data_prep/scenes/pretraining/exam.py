"""Evaluation of the base checkpoint on scenes of the datasets' pool, none of which it was trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image

from data_prep.scenes.captions import describe, parse_description, write_sentence
from data_prep.scenes.drawing import draw
from data_prep.scenes.pretraining.letter_exam import draw_sets, pick_by_letter, pick_ideally, pick_words_by_letter
from data_prep.scenes.scene_graph import Scene, draw_scenes
from semcore.models.captioning.local import write_captions
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import Prompts
from semcore.models.session import FeaturesInMemory, ModelSession
from semcore.models.visual_features import encode_pictures
from semcore.verification import given_image_log_probabilities, sentence_log_probabilities

NUM_CANDIDATES = 10


def examine(
    checkpoint: Checkpoint, prompts: Prompts, words: Sequence[str], num_scenes: int = 500, seed: int = 1
) -> dict[str, float]:
    """Return accuracies in percent: caption slots, whole captions, and choices among ten candidates.

    Choices by likelihood are the scene of ten under which the sentence is most likely, and the sentence
    of ten whose likelihood the scene raises most over its prior; choices by letter are those of `letter_exam.py`.

    Args:
        checkpoint: the model to evaluate.
        prompts: its prompts.
        words: the candidates' words in the choices by letter.
        num_scenes: how many scenes to draw.
        seed: seed of the scenes and of their sentences.
    """
    rng = random.Random(seed)
    scenes = draw_scenes(num_scenes, rng, hard_negative_fraction=0.0)
    pictures = [draw(scene, rng) for scene in scenes]
    captions = _caption(checkpoint, prompts, pictures)
    features = {str(index): vectors for index, vectors in enumerate(encode_pictures(checkpoint, pictures))}
    session = ModelSession(checkpoint, prompts, FeaturesInMemory(features))
    image_picks, sentence_picks = _pick_by_likelihood(session, scenes, rng)
    sets = {kind: draw_sets(num_scenes, rng, hard_negatives=kind == "alike") for kind in ("random", "alike")}
    by_letter = {
        f"{direction}_{kind}_{whose}": percent
        for kind, own in sets.items()
        for whose, percents in (("picks", pick_by_letter(checkpoint, prompts, own, rng)), ("ideal", pick_ideally(own)))
        for direction, percent in percents.items()
    }
    return {
        "slots_right": 100 * slot_accuracy(captions, scenes),
        "captions_right": 100 * sum(map(_is_right, captions, scenes)) / num_scenes,
        "right_image_of_ten": 100 * image_picks,
        "right_sentence_of_ten": 100 * sentence_picks,
        "words_picks": pick_words_by_letter(checkpoint, prompts, words, num_scenes, rng),
    } | by_letter


def slot_accuracy(captions: Sequence[str], scenes: Sequence[Scene]) -> float:
    """Return the fraction of the objects' slots (quadrant, size, colour, shape) that the captions have right."""
    right = total = 0
    for caption, scene in zip(captions, scenes, strict=True):
        slots, _ = parse_description(caption)
        for item in scene.objects:
            said = slots.get(item.place)
            total += 4
            if said is not None:
                right += 1 + sum(map(str.__eq__, said, (item.size, item.colour, item.shape)))
    return right / total


def _is_right(caption: str, scene: Scene) -> bool:
    return caption == describe(scene)


def _caption(checkpoint: Checkpoint, prompts: Prompts, images: Sequence[Image.Image]) -> list[str]:
    texts = []
    for start in range(0, len(images), 50):
        written = write_captions(checkpoint, prompts, images[start : start + 50], max_new_tokens=96)
        texts += [text for text, _ in written]
    return texts


def _pick_by_likelihood(session: ModelSession, scenes: Sequence[Scene], rng: random.Random) -> tuple[float, float]:
    """Return two accuracies: the image of ten for a sentence, the sentence of ten for an image."""
    everyone = range(len(scenes))
    sentences = [write_sentence(scene, rng)[0] for scene in scenes]
    alone = sentence_log_probabilities(session, sentences)
    chosen = [[one, *rng.sample([o for o in everyone if o != one], NUM_CANDIDATES - 1)] for one in everyone]
    asked = [sorted({*chosen[image], *(one for one in everyone if image in chosen[one])}) for image in everyone]
    texts = [(str(image), [sentences[one] for one in own]) for image, own in enumerate(asked)]
    rows = given_image_log_probabilities(session, texts)
    given = [dict(zip(own, row, strict=True)) for own, row in zip(asked, rows, strict=True)]
    right_images = right_sentences = 0
    for one, others in enumerate(chosen):
        by_image = [given[image][one] for image in others]
        by_sentence = [given[one][other] - alone[other] for other in others]
        right_images += by_image.index(max(by_image)) == 0
        right_sentences += by_sentence.index(max(by_sentence)) == 0
    return right_images / len(scenes), right_sentences / len(scenes)
