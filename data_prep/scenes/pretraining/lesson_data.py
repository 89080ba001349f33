"""Data that all lessons draw from: the scenes, the tokenizer, the prompts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_prep.scenes.drawing import draw
from data_prep.scenes.pretraining.keywords import KeywordExample
from data_prep.scenes.pretraining.shared_prefix import Exchange
from data_prep.scenes.scene_graph import Scene, draw_hard_negative, draw_scene
from semcore.models.prompts import Prompts
from semcore.models.tokenization import chat_prompt, expand_images, tokenize

HARD_NEGATIVES_PER_SCENE = 3
NUM_SEARCHED = 400
NOISE = 1.5
"""In words: how far down a search by keywords may rank a scene that shares more of them."""


class ScenePool:
    """Scenes, each followed by its hard negatives, with an index of scenes by colour and shape of their things."""

    def __init__(self, num_families: int, seed: int):
        rng = random.Random(seed)
        self.scenes: list[Scene] = []
        for _ in range(num_families):
            scene = draw_scene(rng, "pretraining")
            self.scenes.append(scene)
            self.scenes.extend(draw_hard_negative(scene, rng, "pretraining") for _ in range(HARD_NEGATIVES_PER_SCENE))
        self._showing: dict[tuple[str, str], list[int]] = {}
        for index, scene in enumerate(self.scenes):
            for look in {(thing.colour, thing.shape) for thing in scene.objects}:
                self._showing.setdefault(look, []).append(index)

    def draw_any(self, num_scenes: int, rng: random.Random) -> list[int]:
        """Return random scenes, without repetition."""
        return rng.sample(range(len(self.scenes)), num_scenes)

    def draw_similar(self, num_scenes: int, rng: random.Random) -> list[int]:
        """Return a scene, one of its hard negatives, and others with one of its things, as a search confuses them."""
        first = rng.randrange(len(self.scenes))
        chosen = {first, rng.choice(self._hard_negatives_of(first))}
        looks = [(thing.colour, thing.shape) for thing in self.scenes[first].objects]
        for _ in range(4 * num_scenes):
            if len(chosen) < num_scenes:
                chosen.add(rng.choice(self._showing[rng.choice(looks)]))
        while len(chosen) < num_scenes:
            chosen.add(rng.randrange(len(self.scenes)))
        found = sorted(chosen)
        rng.shuffle(found)
        return found[:num_scenes]

    def draw_confusable(self, num_scenes: int, rng: random.Random) -> list[int]:
        """Return a scene and those of 400 random ones that share most of its words, whatever the words belong to.

        Identifiers of keywords confuse just these. One of its hard negatives is among them half of the time.
        """
        first = rng.randrange(len(self.scenes))
        chosen = {first}
        if rng.random() < 0.5:
            chosen.add(rng.choice(self._hard_negatives_of(first)))
        sought = _words(self.scenes[first])
        found = rng.sample(range(len(self.scenes)), min(NUM_SEARCHED, len(self.scenes)))
        found.sort(key=lambda one: NOISE * rng.random() - len(sought & _words(self.scenes[one])))
        for one in found:
            if len(chosen) < num_scenes:
                chosen.add(one)
        drawn = sorted(chosen)
        rng.shuffle(drawn)
        return drawn

    def _hard_negatives_of(self, scene: int) -> list[int]:
        family = scene - scene % (1 + HARD_NEGATIVES_PER_SCENE)
        return [one for one in range(family, family + 1 + HARD_NEGATIVES_PER_SCENE) if one != scene]

    def pixels(self, scenes: Sequence[int], rng: random.Random) -> torch.Tensor:
        """Draw scenes, with variations at every call, scaled as by the image processor: (N, 3, H, W)."""
        drawn = np.stack([np.asarray(draw(self.scenes[index], rng)) for index in scenes])
        return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _words(scene: Scene) -> set[str]:
    return {word for thing in scene.objects for word in (thing.colour, thing.shape)} | {scene.background}


@dataclass(frozen=True)
class LessonData:
    """Data that all lessons draw from.

    Attributes:
        keyword_examples: keywords of scenes of the pool.
        words: candidates' words, each a single token after a space.
        num_visual_tokens: visual tokens per image.
    """

    tokenizer: Any
    prompts: Prompts
    pool: ScenePool
    keyword_examples: list[KeywordExample]
    words: list[str]
    num_visual_tokens: int

    def prompt_text(self, name: str, num_images: int, **variables: Any) -> str:
        """Return the text of a prompt, with the tokens of its images."""
        text = chat_prompt(self.tokenizer, self.prompts.render(name, **variables))
        return expand_images(text, [self.num_visual_tokens] * num_images)

    def exchange(self, name: str, answer: str, images: Sequence[int] = (), **variables: Any) -> Exchange:
        """Return a prompt and its answer, which the end token closes."""
        prompt = tokenize(self.tokenizer, self.prompt_text(name, len(images), **variables))
        return Exchange(prompt, [*tokenize(self.tokenizer, answer), self.tokenizer.eos_token_id], tuple(images))
