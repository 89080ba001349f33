"""How good the base checkpoint is, on scenes of the datasets' pool: it has never seen one of them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image

from data_prep.scenes.drawing import draw
from data_prep.scenes.graph import Scene, draw_scenes
from data_prep.scenes.wording import describe, parse_description, write_sentence
from semcore.captioning import write_captions
from semcore.checkpoint import Checkpoint
from semcore.features import encode_pictures
from semcore.prompting import Prompts
from semcore.verification import Choice, Question, choose

NUM_CANDIDATES = 10


def examine(checkpoint: Checkpoint, prompts: Prompts, num_scenes: int = 500, seed: int = 1) -> dict[str, float]:
    """Return in percent: slots of the captions right, captions wholly right, right picks among ten.

    The picks are those of the verification prompt: one sentence and ten random scenes, and one scene
    and ten random sentences; no keywords are shown.
    """
    rng = random.Random(seed)
    scenes = draw_scenes(num_scenes, rng, look_alike_share=0.0)
    pictures = [draw(scene, rng) for scene in scenes]
    captions = _caption(checkpoint, prompts, pictures)
    return {
        "slots_right": 100 * slot_accuracy(captions, scenes),
        "captions_right": 100 * sum(map(_is_right, captions, scenes)) / num_scenes,
        "right_image_of_ten": 100 * _pick(checkpoint, prompts, "t2i", scenes, pictures, rng),
        "right_sentence_of_ten": 100 * _pick(checkpoint, prompts, "i2t", scenes, pictures, rng),
    }


def slot_accuracy(captions: Sequence[str], scenes: Sequence[Scene]) -> float:
    """Return the share of the objects' slots (place, size, colour, shape) that the captions have right."""
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


def _caption(checkpoint: Checkpoint, prompts: Prompts, pictures: Sequence[Image.Image]) -> list[str]:
    texts = []
    for start in range(0, len(pictures), 50):
        written = write_captions(checkpoint, prompts, pictures[start : start + 50], max_new_tokens=96)
        texts += [text for text, _ in written]
    return texts


def _pick(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: str,
    scenes: Sequence[Scene],
    pictures: Sequence[Image.Image],
    rng: random.Random,
) -> float:
    """Return the share of questions whose right choice has the highest probability."""
    features = {str(index): vectors for index, vectors in enumerate(encode_pictures(checkpoint, pictures))}
    sentences = [write_sentence(scene, rng)[0] for scene in scenes]
    questions, truth = [], []
    for index in range(len(scenes)):
        others = rng.sample([other for other in range(len(scenes)) if other != index], NUM_CANDIDATES - 1)
        chosen = [*others, index]
        rng.shuffle(chosen)
        choices = tuple(Choice(str(one), "", sentences[one]) for one in chosen)
        questions.append(Question(sentences[index] if direction == "t2i" else str(index), choices))
        truth.append(chosen.index(index))
    answers = choose(checkpoint, prompts, direction, questions, features)
    picks = [row.index(max(row)) for row in answers]
    return sum(map(int.__eq__, picks, truth)) / len(truth)
