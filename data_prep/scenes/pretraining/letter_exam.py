"""Evaluation of the base checkpoint's choices by letter, on scenes of the datasets' pool, unseen in training.

All ten candidates stand in one prompt, without keywords, in one order per question.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.scenes.captions import Reading, write_sentence
from data_prep.scenes.drawing import draw
from data_prep.scenes.ideal_reader import expected_recall, posterior
from data_prep.scenes.scene_graph import Scene, draw_hard_negative, draw_scene
from semcore.data.directions import Direction
from semcore.models.batching import make_prompts
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import Prompts
from semcore.models.session import FeaturesInMemory
from semcore.models.visual_features import encode_pictures
from semcore.verification.listwise import choose
from semcore.verification.option_logits import LETTERS, option_tokens, read_options
from semcore.verification.question import Choice, Question
from semcore.verification.session import VerifierSession

NUM_CANDIDATES = 10
NUM_WORDS = 3


@dataclass(frozen=True)
class Sets:
    """Scenes, a sentence of each with its reading, and for each scene ten candidates with itself among them."""

    scenes: list[Scene]
    sentences: list[tuple[str, Reading]]
    candidates: list[list[int]]


def draw_sets(num_scenes: int, rng: random.Random, *, hard_negatives: bool) -> Sets:
    """Draw scenes and random candidates for each; with `hard_negatives` the scene's own is one of them.

    Args:
        num_scenes: how many, an even number.
        rng: the random generator.
        hard_negatives: whether the scenes come in pairs that differ in one detail.
    """
    scenes: list[Scene] = []
    while len(scenes) < num_scenes:
        scene = draw_scene(rng, "datasets")
        scenes += [scene, draw_hard_negative(scene, rng, "datasets") if hard_negatives else draw_scene(rng, "datasets")]
    candidates = []
    for one in range(num_scenes):
        own = {one, one ^ 1} if hard_negatives else {one}  # the other of the pair
        others = rng.sample([other for other in range(num_scenes) if other not in own], NUM_CANDIDATES - len(own))
        candidates.append(rng.sample([*own, *others], NUM_CANDIDATES))
    return Sets(scenes, [write_sentence(scene, rng) for scene in scenes], candidates)


def pick_by_letter(checkpoint: Checkpoint, prompts: Prompts, sets: Sets, rng: random.Random) -> dict[Direction, float]:
    """Return the percent of right picks: of images for a sentence (t2i), of sentences for an image (i2t).

    Args:
        checkpoint: the model that chooses.
        prompts: hold "verify_t2i" and "verify_i2t".
        sets: the queries and their candidates.
        rng: draws the images.
    """
    pictures = [draw(scene, rng) for scene in sets.scenes]
    features = {str(one): own for one, own in enumerate(encode_pictures(checkpoint, pictures))}
    session = VerifierSession(checkpoint, prompts, FeaturesInMemory(features))
    percents: dict[Direction, float] = {}
    for direction in Direction:
        questions = [
            Question(
                sets.sentences[one][0] if direction.items_are_images else str(one),
                tuple(Choice(str(other), "", sets.sentences[other][0]) for other in others),
            )
            for one, others in enumerate(sets.candidates)
        ]
        answers = choose(session, direction, questions)
        picks = [own[scores.index(max(scores))] for scores, own in zip(answers, sets.candidates, strict=True)]
        percents[direction] = 100 * sum(pick == one for one, pick in enumerate(picks)) / len(picks)
    return percents


def pick_ideally(sets: Sets) -> dict[Direction, float]:
    """Return the ideal reader's accuracies in percent."""
    percents = dict.fromkeys(Direction, 0.0)
    for one, own in enumerate(sets.candidates):
        scenes = [sets.scenes[other] for other in own]
        readings = [sets.sentences[other][1] for other in own]
        chances = np.round(posterior(readings, scenes), 9)
        right, place = np.eye(NUM_CANDIDATES, dtype=bool), own.index(one)
        for direction, scores in zip(Direction, (chances, chances.T), strict=True):
            recall = expected_recall(scores[place : place + 1], right[place : place + 1], [1])
            percents[direction] += recall["R@1"] / len(sets.candidates)
    return percents


def pick_words_by_letter(
    checkpoint: Checkpoint, prompts: Prompts, words: Sequence[str], num_questions: int, rng: random.Random
) -> float:
    """Return the accuracy in percent of choosing, of ten candidates of some words each, the one with the query's."""
    turns, places = [], []
    for _ in range(num_questions):
        drawn = rng.sample(words, NUM_CANDIDATES * NUM_WORDS)
        candidates = [drawn[start : start + NUM_WORDS] for start in range(0, len(drawn), NUM_WORDS)]
        places.append(rng.randrange(NUM_CANDIDATES))
        shown = [
            {"label": letter, "image": "", "keywords": " ".join(own)}
            for letter, own in zip(LETTERS, candidates, strict=True)
        ]
        query = " ".join(rng.sample(candidates[places[-1]], NUM_WORDS - 1))
        turns.append(prompts.render("verify_t2i", candidates=shown, query=query))
    options = option_tokens(checkpoint.tokenizer, turns[0])
    picks = read_options(checkpoint, make_prompts(checkpoint, turns), options).argmax(1).tolist()
    return 100 * sum(map(int.__eq__, picks, places)) / num_questions
