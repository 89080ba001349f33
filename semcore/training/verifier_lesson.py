"""Everything that a listwise verifier is taught: rows of questions about mined candidates, and those that stop it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import read_items
from semcore.data.run_folder import RunFolder
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import load_prompts
from semcore.training.fine_tune import image_start_id
from semcore.training.image_inputs import Visuals
from semcore.training.mining import VAL
from semcore.training.schedule import PlannedRows, plan_question_rows, plan_val_rows
from semcore.training.trainer import Validation
from semcore.training.verifier_questions import CandidateSet, QuestionMaker, read_candidates
from semcore.verification.block_inference import check_blocks
from semcore.verification.block_layout import Attention


@dataclass(frozen=True)
class MinedSets:
    """The candidate sets of a run.

    Attributes:
        train: those that are trained on.
        val: those that tell when to stop; there may be none.
        directions: that the verifier is for.
    """

    train: list[CandidateSet]
    val: list[CandidateSet]
    directions: list[Direction]


def read_mined_sets(run: RunFolder, dataset: Dataset, asked: Sequence[Direction] | None) -> MinedSets:
    """Read RUN/candidates.

    Args:
        run: holds them, and the identifiers.
        dataset: holds the images and sentences.
        asked: directions that are wanted; all that were mined by default.

    Raises:
        UserError: as `read_candidates`.
    """
    folder = run / "candidates"
    items = {direction: {item.item_id: item for item in read_items(run, dataset, direction)} for direction in Direction}
    train = read_candidates(folder, items, asked)
    # A direction that was mined belongs to the model, even if a small dataset gave no set of it.
    directions = list(asked or [own for own in Direction if (folder / f"{own}.jsonl").exists()])
    val = read_candidates(folder / VAL, items) if (folder / VAL).is_dir() else []
    return MinedSets(train, [own for own in val if own.direction in directions], directions)


@dataclass(frozen=True)
class VerifierLesson:
    """The rows of a training.

    Attributes:
        rows: of all steps.
        validation: rows of val; None without any.
        words: how many sets there are, and what stops the training.
    """

    rows: PlannedRows
    validation: Validation | None
    words: str


def make_verifier_lesson(
    checkpoint: Checkpoint,
    dataset: Dataset,
    mined: MinedSets,
    visuals: Visuals,
    *,
    attention: Attention,
    extra_questions: int,
    patience: int,
    marked: bool,
    num_epochs: int,
    batch_size: int,
    max_steps: int | None,
    seed: int,
) -> VerifierLesson:
    """Return the rows of a verifier's training.

    Args:
        checkpoint: gives the tokenizer.
        dataset: its training images are those of further questions.
        mined: the candidate sets.
        visuals: the source of the images.
        attention: what a candidate sees.
        extra_questions: further questions about the same candidates in a row, at most.
        patience: evaluations on val without a lower loss that the training waits for.
        marked: whether rows say where the candidates are, for the loss of their attention.
        num_epochs: passes over the sets.
        batch_size: rows a step.
        max_steps: the most steps, None for all.
        seed: of the orders.

    Raises:
        UserError: no set's images can be read, or the prompts do not go with blocks.
    """
    prompts, start = load_prompts(special_tokens=checkpoint.special_tokens), image_start_id(checkpoint)
    if attention == "blocks":
        check_blocks(checkpoint, prompts)
    images = dataset.split("train")
    questions = QuestionMaker(checkpoint.tokenizer, prompts, images, visuals, extra_questions, marked=marked)
    rows = plan_question_rows(
        mined.train, questions, image_start_id=start, attention=attention,
        num_epochs=num_epochs, batch_size=batch_size, max_steps=max_steps, seed=seed,
    )  # fmt: skip
    validation = None
    if mined.val:
        alone = QuestionMaker(checkpoint.tokenizer, prompts, [], visuals, 0)
        of_val = plan_val_rows(mined.val, alone, image_start_id=start, attention=attention, seed=seed)
        validation = Validation(of_val, patience)
    lost = len(mined.train) - sum(map(questions.can_ask, mined.train))
    missing = f", {lost} of them left out for want of a readable image" if lost else ""
    stopped = f"stopped by {len(mined.val)} sets of val" if mined.val else "no candidates of val to be stopped by"
    steps = len(rows) // batch_size
    return VerifierLesson(rows, validation, f"{len(mined.train)} sets of candidates{missing}; {steps} steps, {stopped}")
