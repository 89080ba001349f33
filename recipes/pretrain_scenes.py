"""Train the small base checkpoint of the scenes from nothing.

Run as:

    python recipes/pretrain_scenes.py --out BASE

or, from a checkpoint that has had the first courses, with the same options to the same weights:

    python recipes/pretrain_scenes.py --out BASE --start EARLIER

It learns to match words, to describe images, to read sentences and to choose among several images by letter, in the
end among those that a search confuses (`data_prep/scenes/pretraining/courses.py` has the order of the lessons). It sees
scenes of the pretraining pool only: no dataset that `make_scenes` draws, whatever its seed, holds one of them. It takes
minutes on a GPU with some CPU cores beside it (`--device cuda --num-workers 12`), hours on two CPU cores that multiply
bfloat16 natively; a killed run goes on from its last checkpoint. The result is examined on scenes it has not seen, and
its card says how it was made and how good it is.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from data_prep.scenes.pretraining.card import Earlier, Making, read_card, write_card
from data_prep.scenes.pretraining.courses import COURSES
from data_prep.scenes.pretraining.exam import examine
from data_prep.scenes.pretraining.keywords import keep_examples
from data_prep.scenes.pretraining.lesson_data import LessonData, ScenePool
from data_prep.scenes.pretraining.lesson_prompts import load_lesson_prompts
from data_prep.scenes.pretraining.model import (
    VISUAL_TOKENS,
    build_image_processor,
    build_model,
    build_tokenizer,
    common_words,
)
from data_prep.scenes.pretraining.train import Machine, train_course
from data_prep.scenes.pretraining.visual_words import WORD_GROUPS
from semcore.commands.arguments import require_minimum, run_command
from semcore.models.checkpoint import load_checkpoint
from semcore.models.inference import check_device
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.hardware import describe_measurement
from semcore.runtime.packaged_files import resource_folder
from semcore.runtime.stopwatch import Stopwatch
from semcore.runtime.typed_commands import command, data_command

FEWEST_FAMILIES = 4  # a lesson has the keywords of four scenes at once


@dataclass
class Settings:
    """What `recipes/pretrain_scenes.py` takes."""

    out: Path
    """Folder of the checkpoint."""
    work: Path = Path("pretraining")
    """Folder of the training's own checkpoints."""
    seed: int = 20_000
    """Seed of the scenes and of the weights."""
    num_families: int = 12_000
    """How many families of four similar scenes to draw; keywords are found for as many scenes."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train."""
    num_workers: int = 0
    """Processes that make the batches; 0 for none beside the one that trains."""
    start: Path | None = None
    """A checkpoint of this recipe to go on from, with the courses that it has not had; by default random weights."""

    def __post_init__(self) -> None:
        require_minimum(0, self, "seed", "num_workers")
        require_minimum(FEWEST_FAMILIES, self, "num_families")


def main(settings: Settings) -> None:
    """Train, save, evaluate."""
    # 1. The tokenizer, the prompts, the model
    check_device(settings.device)
    earlier = read_card(settings.start) if settings.start else Earlier("", 0)
    if earlier.num_courses >= len(COURSES):
        raise UserError(f"{settings.start} has had all {len(COURSES)} courses, none is left to train")
    _begin(settings)
    stopwatch = Stopwatch(settings.work / "seconds.txt")
    stopwatch.start(go_on=True)
    torch.manual_seed(settings.seed)
    prompt_folder = resource_folder("prompts")
    tokenizer = build_tokenizer(prompt_folder, common_words())
    prompts = load_lesson_prompts(prompt_folder, tokenizer.get_added_vocab())
    model = _load(settings.start, tokenizer) if settings.start else build_model(tokenizer)

    # 2. The training scenes
    pool = ScenePool(settings.num_families, settings.seed)
    kept = settings.work / f"keywords-{settings.num_families}-{settings.seed}.jsonl"
    examples = keep_examples(kept, pool.scenes, settings.num_families, settings.seed)
    words = words_of_one_token(tokenizer)
    data = LessonData(tokenizer, prompts, pool, examples, words, VISUAL_TOKENS)
    print(f"pretrain_scenes: {len(pool.scenes)} scenes, {model.num_parameters():,} parameters")

    # 3. The courses, one after the other
    machine = Machine(settings.device, settings.num_workers)
    for number, course in list(enumerate(COURSES, start=1))[earlier.num_courses :]:
        model = train_course(model, data, course, settings.work / f"course-{number}", settings.seed + number, machine)
        _round(model)
        print(f"pretrain_scenes: course {number} ends after {stopwatch.seconds():.0f} s")
    seconds = stopwatch.stop()

    # 4. Save and evaluate
    new = settings.out.with_name(f".{settings.out.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    for part in (model.cpu().bfloat16(), tokenizer, build_image_processor()):
        part.save_pretrained(new)
    results = examine(load_checkpoint(new, device=settings.device), prompts, words)
    write_card(new, COURSES, results, Making(_typed(settings), seconds, describe_measurement(), earlier.makings))
    shutil.rmtree(settings.out, ignore_errors=True)
    new.rename(settings.out)
    for name, percent in results.items():
        print(f"pretrain_scenes: {name} {percent:.1f} %")
    print(f"pretrain_scenes: {settings.out} holds the checkpoint")
    print(f"next: {data_command('caption', '--data', 'DATA', '--run', 'RUN', '--model', settings.out)}")


def _begin(settings: Settings) -> None:
    """Record what a work folder belongs to, and refuse what another training has left in it."""
    if settings.work.exists() and not settings.work.is_dir():
        raise UserError(f"--work {settings.work} is a file; name a folder")
    settings.work.mkdir(parents=True, exist_ok=True)
    path = settings.work / "begun.json"
    start = fingerprint(settings.start)[:12] if settings.start else "random weights"
    now = {"seed": settings.seed, "num_families": settings.num_families, "start": start}
    before = read_json(path) if path.exists() else now
    for name, value in now.items():
        if before.get(name, value) != value:
            where = f"--work {settings.work} was begun with {name}"
            raise UserError(f"{where} {before[name]}, not {value}; choose another --work, or delete it")
    write_json(path, now)


def _load(start: Path, tokenizer: Any) -> Any:
    """Return the model of a checkpoint that has the tokens of this training; refuse another's."""
    checkpoint = load_checkpoint(start, device="cpu")
    if checkpoint.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise UserError(f"{start} has other tokens than the prompts and words of today; leave --start out")
    return checkpoint.model.float()


@torch.no_grad()
def _round(model: torch.nn.Module) -> None:
    """Round the weights to bfloat16, as a saved checkpoint has them: a course begins the same from either."""
    for weight in model.parameters():
        weight.copy_(weight.bfloat16())


def _typed(settings: Settings) -> str:
    options = ["--seed", str(settings.seed), "--num-families", str(settings.num_families)]
    options += ["--device", settings.device, "--num-workers", str(settings.num_workers)]
    if settings.start:
        options += ["--start", "EARLIER"]
    return command("python", "recipes/pretrain_scenes.py", "--out", "BASE", *options)


def words_of_one_token(tokenizer: Any) -> list[str]:
    """Return the words of the scenes, and common ones, that are one token after a space."""
    words = {*common_words(), *(word for group in WORD_GROUPS for word in group)}
    return sorted(word for word in words if len(tokenizer.tokenize(f" {word}")) == 1)


if __name__ == "__main__":
    run_command(main, Settings)
