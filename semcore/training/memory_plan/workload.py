"""Estimated workload of a training before there is a dataset: its rows and their tokens.

A photograph's sentence has some fourteen tokens, and the prompts as many as the ones in `prompts/`. A
run with `--check` counts its rows exactly.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from semcore.data.directions import Direction
from semcore.training.memory_plan.activations import RowSize
from semcore.verification.block_layout import Attention

# ours: Qwen2's tokens, rounded up
CHAT_TOKENS = 40  # the chat template around a prompt
SENTENCE_TOKENS = 14
INSTRUCTION_TOKENS = 20  # of a prompt, after the shared prefix
FRAME_TOKENS = 8  # a candidate's letter and words around it
WORD_TOKENS = 2  # of a keyword
MORE_THAN_AN_IDENTIFIER = 2  # cluster token and end token


@dataclass(frozen=True)
class Workload:
    """Estimated workload of one training.

    Attributes:
        num_rows: rows per epoch.
        num_tokens: tokens per epoch, in all rows.
        largest: the largest row.
    """

    num_rows: int
    num_tokens: int
    largest: RowSize


def identifier_workload(
    num_images: int,
    sentences_an_image: int,
    *,
    image_tokens: int,
    num_keywords: int,
    row_tokens: int,
    held_out_sentences: int,
    held_out_fraction: float,
    directions: Collection[Direction] = tuple(Direction),
    captions: bool = False,
    own_images: bool = False,
    num_copies: int = 1,
) -> Workload:
    """Estimate the rows of an identifier training: sentences packed together, and each image's identifiers.

    Args:
        num_images: images of the training split.
        sentences_an_image: sentences per image.
        image_tokens: visual tokens per image.
        num_keywords: keywords per identifier.
        row_tokens: tokens per row, at most.
        held_out_sentences: held-out sentences per image.
        held_out_fraction: fraction of the images that are held out as queries.
        directions: that are trained.
        captions: a caption of every image asks, too; those of val and test come on top.
        own_images: every image asks for its own identifier, too; likewise.
        num_copies: how often each row is read, two times with R-Drop.
    """
    answer = MORE_THAN_AN_IDENTIFIER + WORD_TOKENS * num_keywords
    pair = SENTENCE_TOKENS + INSTRUCTION_TOKENS + answer
    pairs = num_images * (sentences_an_image - min(held_out_sentences, max(sentences_an_image - 1, 0)))
    pairs = (pairs + num_images * captions) * (Direction.T2I in directions)
    t2i_rows = -(-pairs // max(1, (row_tokens - CHAT_TOKENS) // pair))
    image_part = CHAT_TOKENS + INSTRUCTION_TOKENS + image_tokens
    answers_per_row = max(1, (row_tokens - image_part) // answer)
    images = round(num_images * (1 - held_out_fraction)) * (Direction.I2T in directions)
    i2t_rows = images * -(-sentences_an_image // answers_per_row)
    tokens = t2i_rows * CHAT_TOKENS + pairs * pair + i2t_rows * image_part + images * sentences_an_image * answer
    if own_images:  # in the row of the image's other questions where it has some
        i2t_rows += num_images - images
        tokens += num_images * (INSTRUCTION_TOKENS + answer) + (num_images - images) * (CHAT_TOKENS + image_tokens)
    sizes = {Direction.T2I: RowSize(row_tokens, 0), Direction.I2T: RowSize(max(row_tokens, image_part + answer), 1)}
    largest = sizes[Direction.I2T if Direction.I2T in directions or own_images else Direction.T2I]
    return Workload(t2i_rows + i2t_rows, tokens * num_copies, largest)


def ranking_workload(
    num_images: int,
    sentences_an_image: int,
    *,
    image_tokens: int,
    num_keywords: int,
    num_found: int,
    held_out_sentences: int,
    held_out_fraction: float,
    limit: int | None,
    directions: Collection[Direction] = tuple(Direction),
) -> Workload:
    """Estimate the rows of a ranking stage: each a query with its right identifiers and those that were found.

    Args:
        num_images: images of the training split.
        sentences_an_image: sentences per image.
        image_tokens: visual tokens per image.
        num_keywords: keywords per identifier.
        num_found: identifiers that are found for a query, at most.
        held_out_sentences: held-out sentences per image.
        held_out_fraction: fraction of the images that are held out as queries.
        limit: queries per direction, at most.
        directions: that are trained.
    """
    answer = MORE_THAN_AN_IDENTIFIER + WORD_TOKENS * num_keywords
    queries = {
        Direction.T2I: num_images * (sentences_an_image - min(held_out_sentences, max(sentences_an_image - 1, 0))),
        Direction.I2T: round(num_images * (1 - held_out_fraction)),
    }
    sizes = {
        Direction.T2I: CHAT_TOKENS + INSTRUCTION_TOKENS + SENTENCE_TOKENS + (1 + num_found) * answer,
        Direction.I2T: CHAT_TOKENS + INSTRUCTION_TOKENS + image_tokens + (sentences_an_image + num_found) * answer,
    }
    rows = {own: min(queries[own], limit or queries[own]) for own in directions}
    longest = max(directions, key=lambda own: sizes[own])
    tokens = sum(rows[own] * sizes[own] for own in directions)
    return Workload(sum(rows.values()), tokens, RowSize(sizes[longest], int(longest.queries_are_images)))


def verifier_workload(
    num_images: int,
    *,
    image_tokens: int,
    num_keywords: int,
    num_candidates: int,
    extra_questions: int,
    held_out_sentences: int,
    held_out_fraction: float,
    limit: int | None,
    attention: Attention = "full",
    directions: Collection[Direction] = tuple(Direction),
) -> Workload:
    """Estimate the rows of a verifier training: each a set of candidates with the questions about them.

    Args:
        num_images: images of the training split.
        image_tokens: visual tokens per image.
        num_keywords: keywords per identifier.
        num_candidates: candidates per set.
        extra_questions: questions per row, besides the first.
        held_out_sentences: held-out sentences per image; each is the query of one row.
        held_out_fraction: fraction of held-out images; each is the query of one row.
        limit: queries per direction, at most.
        attention: attention of the candidates; in "blocks" each of them is preceded by the prompt's head.
        directions: that are trained.
    """
    sets = {Direction.T2I: num_images * held_out_sentences, Direction.I2T: round(num_images * held_out_fraction)}
    t2i_sets, i2t_sets = (
        (min(number, limit) if limit else number) * (direction in directions) for direction, number in sets.items()
    )
    questions, words = 1 + extra_questions, FRAME_TOKENS + WORD_TOKENS * num_keywords
    heads = CHAT_TOKENS * (num_candidates if attention == "blocks" else 1)
    t2i = heads + num_candidates * (words + image_tokens) + questions * (SENTENCE_TOKENS + INSTRUCTION_TOKENS)
    i2t = heads + num_candidates * (words + SENTENCE_TOKENS) + questions * (image_tokens + INSTRUCTION_TOKENS)
    sizes = {Direction.T2I: RowSize(t2i, num_candidates), Direction.I2T: RowSize(i2t, questions)}
    largest = max((sizes[direction] for direction in directions), key=lambda size: size.num_tokens)
    return Workload(t2i_sets + i2t_sets, t2i_sets * t2i + i2t_sets * i2t, largest)


def num_steps(num_rows: int, batch_size: int, num_epochs: int, max_steps: int | None) -> int:
    """Return the number of steps of a training, as by `semcore.training.schedule.plan`."""
    steps = max(1, num_rows * num_epochs // batch_size)
    return min(steps, max_steps) if max_steps else steps
