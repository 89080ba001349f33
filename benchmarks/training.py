"""Training steps through `transformers.Trainer`: packed rows and stored features, against the usual way.

    python -m benchmarks.training --json benchmarks/results/training-cpu.json
    python -m benchmarks.training --device cuda --shape 1b --json benchmarks/results/training-cuda.json
    python -m benchmarks.training --quick

stage1_packed: pairs of a sentence and an identifier. Ours are packed rows, the output head on label positions only;
the peer has one pair per row, padded to the longest of its batch. A token counts if it is a prompt's or an answer's.
stage2_feature_store: questions about ten images. Ours read stored features; the peer's images go through the frozen
vision tower in every step. Both sides of a row see the same examples in every step and start from the same weights;
before anything is timed their losses are compared.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import Dataset
from transformers import TrainingArguments

from benchmarks import random_models
from benchmarks.corpora import synthetic_corpus
from benchmarks.identifiers import draw_captions
from benchmarks.report import Row, higher_is_better, not_run, publish
from benchmarks.roofline import Decoder, measure_roofline, of_roofline
from benchmarks.timing import interleaved_medians
from benchmarks.verification_speed import SHAPES, draw_images
from semcore.commands.arguments import run_command
from semcore.data.directions import Direction
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import IMAGE, load_prompts
from semcore.models.tokenization import chat_prompt, expand_images, tokenize
from semcore.runtime.errors import UserError
from semcore.training.chunked_loss import chunked_loss
from semcore.training.collator import Collator
from semcore.training.fine_tune import image_start_id
from semcore.training.identifier_pairs import Example
from semcore.training.image_inputs import Pixels, StoredFeatures, Visuals, load_visuals
from semcore.training.launcher import choose_attention, quiet_libraries
from semcore.training.packing import IGNORED, merge, pack
from semcore.training.trainer import run_training
from semcore.training.weight_movement import freeze
from semcore.verification import Choice, Question, option_tokens, question_turn

Batch = dict[str, Any]
TOLERANCE = 2e-3
"""Largest difference of the losses of both sides, for rounding."""


@dataclass
class Settings:
    """What to measure."""

    json: Path | None = None
    """File to save the rows in."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the model trains; cuda computes in bfloat16."""
    shape: Literal["tiny", "1b"] = "tiny"
    """Sizes of decoder and vision tower; 1b is InternVL2.5-1B's."""
    num_steps: int = 1
    """Optimizer steps a run."""
    pairs_per_step: int = 128
    """Pairs of stage 1 a step."""
    pairs_per_batch: int = 16
    """Padded rows that go through the device at once; their gradients accumulate to a step."""
    row_tokens: int = 512
    """Tokens of a packed row, at most."""
    questions_per_step: int = 8
    """Questions of stage 2 a step, one a batch."""
    num_candidates: int = 10
    """Images a question."""
    repeats: int = 3
    """Runs of each side that count."""
    quick: bool = False
    """A few examples, one step, one run: to see that it works."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "pairs_per_step", "pairs_per_batch", "row_tokens", "questions_per_step", "repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} takes a whole number of at least 1")


class Steps(Dataset[Any]):
    """Batches in their order; each is one element, so that `Trainer` cuts none."""

    def __init__(self, batches: Sequence[Any]):
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Any:
        return self._batches[index]


def main(settings: Settings) -> None:
    """Measure, print and save."""
    if settings.quick:
        settings.num_steps, settings.pairs_per_step, settings.pairs_per_batch, settings.repeats = 1, 8, 4, 1
        settings.questions_per_step, settings.num_candidates = 1, 2
    names = ("stage1_packed", "stage2_feature_store")
    if settings.device == "cuda" and not torch.cuda.is_available():
        return publish([not_run(name, "no GPU") for name in names], settings.json)
    quiet_libraries()
    checkpoint = random_models.vision_checkpoint(*SHAPES[settings.shape], settings.device, torch.float32)
    freeze(checkpoint.model, vision=True, projector=True)
    roofline = measure_roofline(settings.device, torch.bfloat16 if settings.device == "cuda" else torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        first = stage1_row(checkpoint, Path(folder), settings)
        # Three passes over the layers a token; the head and its tokens are left out.
        least = roofline.least_s(3 * 2 * Decoder.of(checkpoint.model).body, 0)
        rows = [
            replace(first, note=f"{first.note}; {of_roofline(least, 1 / float(first.ours or 1))} a token"),
            stage2_row(checkpoint, Path(folder), settings),
        ]
    return publish(rows, settings.json, roofline=roofline.as_record())


def stage1_row(checkpoint: Checkpoint, folder: Path, settings: Settings) -> Row:
    """Time packed rows against one pair per row."""
    pairs = draw_pairs(checkpoint, settings.num_steps * settings.pairs_per_step)
    steps = list(cut(pairs, settings.pairs_per_step))
    start, pad = image_start_id(checkpoint), checkpoint.tokenizer.pad_token_id
    packed = [[merge(group, start) for group in pack(step, settings.row_tokens, start)] for step in steps]
    padded = [own for step in steps for own in cut(step, settings.pairs_per_batch)]
    ours = collated(StoredFeatures({}), checkpoint)

    def theirs(batches: Sequence[Any]) -> Batch:
        return padded_batch(batches[0], pad)

    accumulation_steps = len(padded) // len(packed)
    compare_losses(checkpoint, [ours([packed[0]])], [theirs([own]) for own in padded[:accumulation_steps]])
    seconds = interleaved_medians(
        {
            "ours": lambda: train(checkpoint, packed, ours, 1, folder, settings),
            "peer": lambda: train(checkpoint, padded, theirs, accumulation_steps, folder, settings, plain=True),
        },
        settings.repeats,
    )
    useful = sum(len(pair.prompt) + len(pair.answer) for pair in pairs)
    rows, tokens = sum(map(len, packed)), sum(len(row.input_ids) for step in packed for row in step)
    note = (
        f"{settings.shape} shape, {settings.pairs_per_step} pairs a step in {rows / len(steps):.0f} rows; "
        f"{tokens / useful:.2f} tokens read for one that counts"
    )
    return higher_is_better("stage1_packed", useful / seconds["ours"], useful / seconds["peer"], "tokens/s", note)


def stage2_row(checkpoint: Checkpoint, folder: Path, settings: Settings) -> Row:
    """Time stored features against pixels."""
    paths = draw_images(folder, 2 * settings.num_candidates)
    dtype = torch.bfloat16 if settings.device == "cuda" else torch.float32
    frozen = {"freeze_vision": True, "freeze_projector": True}
    stored = load_visuals(checkpoint, paths, folder / "features", dtype=dtype, device=settings.device, **frozen)
    questions = draw_choices(checkpoint, stored, list(paths), settings)
    start = image_start_id(checkpoint)
    batches = [[merge([question], start)] for question in questions]
    sides = {"ours": collated(stored, checkpoint), "peer": collated(Pixels(checkpoint, paths), checkpoint)}
    if settings.device == "cpu":
        compare_losses(checkpoint, *([collate(batches[:1])] for collate in sides.values()))
    runs: dict[str, Callable[[], None]] = {
        name: lambda collate=collate: train(  # type: ignore[misc]
            checkpoint, batches, collate, settings.questions_per_step, folder, settings
        )
        for name, collate in sides.items()
    }
    seconds = interleaved_medians(runs, settings.repeats)
    note = f"{settings.shape} shape, {settings.num_candidates} images a question, text model trained, the rest frozen"
    rates = {side: len(questions) / taken for side, taken in seconds.items()}
    return higher_is_better("stage2_feature_store", rates["ours"], rates["peer"], "questions/s", note)


def cut(items: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    """Yield `size` items at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def draw_pairs(checkpoint: Checkpoint, count: int) -> list[Example]:
    """Draw sentences and identifiers, as long as real ones."""
    prompts = load_prompts(special_tokens=checkpoint.special_tokens)
    turns = [prompts.render("identify_t2i", query=sentence) for sentence in draw_captions(count)]
    tokens = [tokenize(checkpoint.tokenizer, chat_prompt(checkpoint.tokenizer, turn)) for turn in turns]
    answers = synthetic_corpus(count).sequences()
    return [Example(prompt, answer) for prompt, answer in zip(tokens, answers, strict=True)]


def draw_choices(
    checkpoint: Checkpoint, visuals: Visuals, image_ids: Sequence[str], settings: Settings
) -> list[Example]:
    """Draw questions about images; the answer is a letter."""
    tokenizer, generator = checkpoint.tokenizer, random.Random(0)
    prompts, letters = load_prompts(special_tokens=checkpoint.special_tokens), option_tokens(tokenizer)
    examples = []
    for sentence in draw_captions(settings.num_steps * settings.questions_per_step):
        shown = generator.sample(image_ids, settings.num_candidates)
        question = Question(sentence, tuple(Choice(image_id, "thing photo") for image_id in shown))
        turn = chat_prompt(tokenizer, question_turn(prompts, Direction.T2I, question))
        assert turn.count(str(IMAGE)) == len(shown)
        text = expand_images(turn, [visuals.num_tokens(image_id) for image_id in shown])
        right = generator.randrange(len(shown))
        examples.append(Example(tokenize(tokenizer, text), [letters[right]], tuple(shown)))
    return examples


def collated(visuals: Visuals, checkpoint: Checkpoint) -> Callable[[Sequence[Any]], Batch]:
    """Return the training's own collator for an element that is a list of rows."""
    collator = Collator(visuals, checkpoint.tokenizer.pad_token_id, checkpoint.model.config.image_token_id)
    return lambda batches: collator(batches[0])


def padded_batch(pairs: Sequence[Example], pad_token_id: int) -> Batch:
    """Return the usual batch of a `Trainer`: one pair per row, padded on the right, prompts without labels."""
    length = max(len(pair.prompt) + len(pair.answer) for pair in pairs)

    def pad(rows: Iterable[Sequence[int]], filler: int) -> torch.Tensor:
        return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows])

    return {
        "input_ids": pad(([*pair.prompt, *pair.answer] for pair in pairs), pad_token_id),
        "attention_mask": pad(([1] * (len(pair.prompt) + len(pair.answer)) for pair in pairs), 0),
        "labels": pad(([*[IGNORED] * len(pair.prompt), *pair.answer] for pair in pairs), IGNORED),
    }


def compare_losses(checkpoint: Checkpoint, ours: Iterable[Batch], theirs: Iterable[Batch]) -> None:
    """Refuse to time sides with different losses."""
    sums = [mean_loss(checkpoint, batches) for batches in (ours, theirs)]
    if abs(sums[0] - sums[1]) > TOLERANCE:
        raise RuntimeError(f"the same examples have the loss {sums[0]:.5f} our way and {sums[1]:.5f} the plain way")


@torch.no_grad()
def mean_loss(checkpoint: Checkpoint, batches: Iterable[Batch]) -> float:
    """Return the mean over all labels."""
    total, count = 0.0, 0
    for batch in batches:
        labels = int((batch["labels"] != IGNORED).sum())
        there = {
            name: value.to(checkpoint.device) if torch.is_tensor(value) else value for name, value in batch.items()
        }
        total += float(checkpoint.model(**there).loss) * labels
        count += labels
    return total / count


def train(
    checkpoint: Checkpoint,
    batches: Sequence[Any],
    collate: Callable[[Sequence[Any]], Batch],
    accumulation_steps: int,
    folder: Path,
    settings: Settings,
    plain: bool = False,
) -> None:
    """Train on all batches once; a learning rate of 0 leaves the weights unchanged.

    `plain` is the libraries' own attention and loss, else they are those of our recipes.
    """
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), max_steps=settings.num_steps, per_device_train_batch_size=1,
        gradient_accumulation_steps=accumulation_steps, learning_rate=0.0, bf16=settings.device == "cuda",
        use_cpu=settings.device == "cpu", train_sampling_strategy="sequential", save_strategy="no", report_to="none",
        logging_strategy="no", disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    checkpoint.model.set_attn_implementation("sdpa")
    if not plain:
        choose_attention(checkpoint.model)
    with nullcontext() if plain else chunked_loss(checkpoint.model):
        run_training(checkpoint.model, arguments, Steps(batches), collate, description="", progress=False)


if __name__ == "__main__":
    run_command(main, Settings)
