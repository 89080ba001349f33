"""Words of what a visual token shows, as labels from which a vision tower learns shapes in minutes."""

from __future__ import annotations

from typing import Any

import torch

from data_prep.scenes.pretraining.marking import by_visual_token
from data_prep.scenes.scene_graph import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Scene
from semcore.models.tokenization import tokenize

WORD_GROUPS = (SIZES, COLOURS, SHAPES, ("upper", "lower"), ("left", "right"), BACKGROUNDS)


def word_group_tokens(tokenizer: Any) -> list[torch.Tensor]:
    """Return, for each group, the token ids of its words inside a sentence, shape (words of the group,).

    Raises:
        ValueError: a word is more than one token.
    """
    groups = [[tokenize(tokenizer, f" {word}") for word in group] for group in WORD_GROUPS]
    if any(len(tokens) != 1 for group in groups for tokens in group):
        raise ValueError("a word of the scenes is more than one token")
    return [torch.tensor(group)[:, 0] for group in groups]


def visual_words(scene: Scene, num_visual_tokens: int) -> list[list[int]]:
    """Return, for each visual token and group, the index of the true word; the group's length for none of them."""
    things = {thing.place: thing for thing in scene.objects}
    quadrants = []
    for place in PLACES:
        thing = things.get(place)
        said = (thing.size, thing.colour, thing.shape, *place.split()) if thing else (None,) * 5
        words = zip(WORD_GROUPS, (*said, scene.background), strict=True)
        quadrants.append([len(group) if word is None else group.index(word) for group, word in words])
    return by_visual_token(quadrants, num_visual_tokens)
