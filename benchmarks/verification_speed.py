"""Verification of ten images per query: stored features against encoding, cached candidates against stored features.

    python -m benchmarks.verification_speed --json benchmarks/results/verification-cpu.json
    python -m benchmarks.verification_speed --device cuda --shape 1b --json benchmarks/results/verification-cuda.json
    python -m benchmarks.verification_speed --quick

Same process, same weights, same questions; the runs alternate and the median counts. Before anything is timed the
scores are compared: with and without the store, and in candidate blocks with one whole pass and an explicit mask. That
is done in float32, with one question where the timed model is in bfloat16; how far apart its scores are is said.
"""

from __future__ import annotations

import copy
import random
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from benchmarks import random_models
from benchmarks.report import Row, lower_is_better, not_run, publish
from benchmarks.roofline import Decoder, Roofline, measure_roofline, of_roofline
from benchmarks.timing import interleaved_medians, timed
from semcore.commands.arguments import run_command
from semcore.data.dataset import open_image
from semcore.data.directions import Direction
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import Prompts, load_prompts
from semcore.models.visual_features import FeatureStore
from semcore.runtime.errors import UserError
from semcore.training.block_packing import merge_blocks
from semcore.training.collator import Collator
from semcore.training.image_inputs import StoredFeatures
from semcore.verification import BlockReader, Choice, Question, VerifierSession, choose, option_tokens
from semcore.verification.block_layout import cut_question

SHAPES = {
    "tiny": (random_models.TINY, random_models.TINY_VISION),
    "1b": (random_models.ONE_B, random_models.VISION_300M),
}
TOLERANCE = 1e-3
"""Largest difference of two log-probabilities in float32, for rounding."""
ROUNDED_TOLERANCE = 0.5
"""Largest mean difference in bfloat16, which the rows speak of."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class Settings:
    """What to measure."""

    json: Path | None = None
    """File to save the rows in."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the model runs."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Its precision while it is timed: "auto" is bfloat16 on cuda, else float32."""
    shape: Literal["tiny", "1b"] = "tiny"
    """Sizes of decoder and vision tower; 1b is InternVL2.5-1B's."""
    num_queries: int = 4
    """Questions a run."""
    num_candidates: int = 10
    """Images a question."""
    num_images: int = 40
    """Images the candidates are drawn from."""
    repeats: int = 5
    """Runs of each side that count."""
    quick: bool = False
    """Two questions about two images, one run: to see that it works."""

    def __post_init__(self) -> None:
        for name in ("num_queries", "num_candidates", "repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} takes a whole number of at least 1")
        if not self.num_candidates <= self.num_images:
            raise UserError(f"--num-images must be --num-candidates or more, found {self.num_images}")


def main(settings: Settings) -> None:
    """Measure, print and save."""
    if settings.quick:
        settings.num_queries, settings.num_candidates, settings.num_images, settings.repeats = 2, 2, 3, 1
    remarks: dict[str, Any] = {}
    if settings.device == "cuda" and not torch.cuda.is_available():
        rows = [not_run(name, "no GPU") for name in ("feature_store", "blocks")]
    else:
        automatic = "bfloat16" if settings.device == "cuda" else "float32"
        dtype = DTYPES[automatic if settings.dtype == "auto" else settings.dtype]
        roofline = measure_roofline(settings.device, dtype)
        checkpoint = random_models.vision_checkpoint(*SHAPES[settings.shape], settings.device, dtype)
        with tempfile.TemporaryDirectory() as folder:
            if dtype != torch.float32:
                check_in_float32(checkpoint, Path(folder) / "exact", settings)
            rows = [make(checkpoint, Path(folder), settings) for make in (feature_store_row, blocks_row)]
        rows[0] = _beside_roofline(rows[0], roofline, checkpoint, settings)
        remarks = {"roofline": roofline.as_record()}
    publish(rows, settings.json, **remarks)


def check_in_float32(checkpoint: Checkpoint, folder: Path, settings: Settings) -> None:
    """Compare the scores of one question in float32, which the rows' functions refuse to differ in."""
    folder.mkdir()
    exact = replace(checkpoint, model=copy.deepcopy(checkpoint.model).float())
    one = replace(settings, num_queries=1, repeats=1)
    for make in (feature_store_row, blocks_row):
        make(exact, folder, one)


def _beside_roofline(row: Row, roofline: Roofline, checkpoint: Checkpoint, settings: Settings) -> Row:
    """Say how much of the possible speed is reached, of a question whose images are visual tokens alone."""
    tokens = settings.num_candidates * random_models.VISUAL_TOKENS
    decoder = Decoder.of(checkpoint.model)
    least = roofline.least_s(2 * decoder.body * tokens, decoder.body)
    return replace(row, note=f"{row.note}; {of_roofline(least, float(row.ours or 0))}")


def _compared(checkpoint: Checkpoint, ours: list[list[float]], others: list[list[float]], what: str) -> str:
    """Return a sentence on the difference of two lists of scores.

    Raises:
        RuntimeError: they differ in float32.
    """
    apart = (torch.tensor(ours) - torch.tensor(others)).abs()
    if checkpoint.model.dtype == torch.float32:
        if float(apart.max()) > TOLERANCE:
            raise RuntimeError(f"the scores {what} differ by {float(apart.max()):.4f}")
        return f"by {float(apart.max()):.0e} at most"
    verdict = "within" if float(apart.mean()) <= ROUNDED_TOLERANCE else "BEYOND"
    return (
        f"by {float(apart.mean()):.2g} on average in bfloat16, {verdict} the tolerance of {ROUNDED_TOLERANCE}, and by "
        f"{TOLERANCE} at most in float32"
    )


def feature_store_row(checkpoint: Checkpoint, folder: Path, settings: Settings) -> Row:
    """Time the listwise verifier with stored features, and with the vision tower in front of every question."""
    paths = draw_images(folder, settings.num_images)
    questions = draw_questions(list(paths), settings)
    prompts = load_prompts(special_tokens=checkpoint.special_tokens)
    FeatureStore(checkpoint, paths, folder / "warm").add(list(paths)[:1])
    store = FeatureStore(checkpoint, paths, folder / "features")
    seconds_to_fill = timed(lambda: store.add(paths))
    session = VerifierSession(checkpoint, prompts, store)

    def ours() -> list[list[float]]:
        return choose(session, Direction.T2I, questions)

    def peer() -> list[list[float]]:
        scores = []
        for question in questions:
            shown = {choice.item_id: open_image(paths[choice.item_id]) for choice in question.choices}
            scores += choose(session.with_pictures(shown), Direction.T2I, [question])
        return scores

    apart = _compared(checkpoint, ours(), peer(), "with and without the store")
    seconds = interleaved_medians({"ours": ours, "peer": peer}, settings.repeats)
    note = (
        f"{settings.shape} shape, {settings.num_candidates} images a query, {settings.num_queries} queries; scores "
        f"differ {apart}; each image encoded once in {seconds_to_fill / len(paths):.2g} s"
    )
    a_query = {side: taken / settings.num_queries for side, taken in seconds.items()}
    return lower_is_better("feature_store", a_query["ours"], a_query["peer"], "s a query", note)


def blocks_row(checkpoint: Checkpoint, folder: Path, settings: Settings) -> Row:
    """Time the listwise verifier with cached candidates, and with full attention on stored features."""
    paths = draw_images(folder, settings.num_images)
    questions = draw_questions(list(paths), settings)
    prompts = load_prompts(special_tokens=checkpoint.special_tokens)
    store = FeatureStore(checkpoint, paths, folder / "features")
    store.add(paths)
    shown = {choice.item_id for question in questions for choice in question.choices}
    reader = BlockReader(checkpoint, prompts)
    full, in_blocks = (VerifierSession(checkpoint, prompts, store, blocks) for blocks in (None, reader))

    def ours() -> list[list[float]]:
        return choose(in_blocks, Direction.T2I, questions)

    def peer() -> list[list[float]]:
        return choose(full, Direction.T2I, questions)

    cold = timed(ours)
    features = store.of(shown)
    whole = [whole_pass(checkpoint, prompts, question, features) for question in questions]
    apart = _compared(checkpoint, ours(), whole, "from kept blocks and from one whole pass")
    seconds = interleaved_medians({"ours": ours, "peer": peer}, settings.repeats)
    warm = seconds["ours"]
    note = (
        f"{settings.shape} shape, {settings.num_candidates} images a query, {settings.num_queries} queries; scores "
        f"differ from one whole pass {apart}; each candidate read once in "
        f"{max(cold - warm, 0) / len(shown):.2g} s, {reader.states.nbytes / len(shown) / 2**20:.2g} MiB kept"
    )
    return lower_is_better(
        "blocks", warm / settings.num_queries, seconds["peer"] / settings.num_queries, "s a query", note
    )


@torch.inference_mode()
def whole_pass(
    checkpoint: Checkpoint, prompts: Prompts, question: Question, features: dict[str, torch.Tensor]
) -> list[float]:
    """Return the letters' log-probabilities of a question in candidate blocks, as in training: in one pass.

    Args:
        checkpoint: the verifier.
        prompts: its prompts.
        question: the question.
        features: image id -> features (visual tokens, hidden).
    """
    tokenizer, config = checkpoint.tokenizer, checkpoint.model.config
    letters = option_tokens(tokenizer)[: len(question.choices)]
    row = merge_blocks(
        tokenizer,
        Direction.T2I,
        [cut_question(tokenizer, prompts, Direction.T2I, question)],
        [[choice.item_id for choice in question.choices]],
        lambda image_id: len(features[image_id]),
        letters=letters,
        answers=letters[:1],
    )
    batch = Collator(StoredFeatures(features), tokenizer.pad_token_id, config.image_token_id)([row])
    batch = {
        name: value.to(checkpoint.device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
    }
    return checkpoint.model(**batch).logits[0, -1, letters].float().log_softmax(dim=0).tolist()


def draw_images(folder: Path, num_images: int) -> dict[str, Path]:
    """Write images of noise, and return id -> file."""
    generator = random.Random(0)
    paths = {f"image-{number}": folder / f"image-{number}.png" for number in range(num_images)}
    for path in paths.values():
        small = Image.frombytes("RGB", (16, 12), generator.randbytes(16 * 12 * 3))
        small.resize((640, 480), Image.Resampling.BICUBIC).save(path)
    return paths


def draw_questions(image_ids: list[str], settings: Settings) -> list[Question]:
    """Draw the candidates of every query."""
    generator = random.Random(1)
    return [
        Question(
            f"a photo of thing number {number}",
            tuple(Choice(image_id, "thing photo") for image_id in generator.sample(image_ids, settings.num_candidates)),
        )
        for number in range(settings.num_queries)
    ]


if __name__ == "__main__":
    run_command(main, Settings)
