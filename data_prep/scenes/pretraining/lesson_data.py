"""Data that all lessons draw from: the scenes, the tokenizer, the prompts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.scenes.drawing import draw
from data_prep.scenes.pretraining.keywords import KeywordExample
from data_prep.scenes.pretraining.shared_prefix import Exchange
from data_prep.scenes.scene_graph import Scene, draw_hard_negative, draw_scene
from semcore.models.prompts import Prompts
from semcore.models.tokenization import chat_prompt, expand_images, tokenize

HARD_NEGATIVES_PER_SCENE = 3


class ScenePool:
    """Scenes, each followed by its hard negatives, drawn once: `pixels[i]` is the image of `scenes[i]`.

    `pixels` has the shape (scenes, height, width, 3), bytes.
    """

    def __init__(self, num_families: int, seed: int):
        rng = random.Random(seed)
        self.scenes: list[Scene] = []
        for _ in range(num_families):
            scene = draw_scene(rng, "pretraining")
            self.scenes.append(scene)
            self.scenes.extend(draw_hard_negative(scene, rng, "pretraining") for _ in range(HARD_NEGATIVES_PER_SCENE))
        self.pixels = np.stack([np.asarray(draw(scene, rng)) for scene in self.scenes])


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
