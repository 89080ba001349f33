"""Train the small base checkpoint of the scenes from nothing.

Run as:

    python recipes/pretrain_scenes.py --out BASE

or, from a checkpoint that has had the first courses:

    python recipes/pretrain_scenes.py --out BASE --start EARLIER --first-course 5

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

from data_prep.scenes.pretraining.card import Making, earlier_makings, write_card
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
    """A checkpoint of this recipe to go on from; by default random weights."""
    first_course: int = 1
    """The course to begin with, the first that the checkpoint of --start has not had."""

    def __post_init__(self) -> None:
        require_minimum(0, self, "seed", "num_workers")
        require_minimum(1, self, "first_course")
        if (self.start is None) != (self.first_course == 1):
            raise UserError("--start and --first-course go together: a checkpoint, and the first course it has not had")
        if self.first_course > len(COURSES):
            raise UserError(f"--first-course {self.first_course} is beyond the last of {len(COURSES)} courses")
        require_minimum(FEWEST_FAMILIES, self, "num_families")


def main(settings: Settings) -> None:
    """Train, save, evaluate."""
    # 1. The tokenizer, the prompts, the model
    check_device(settings.device)
    before = earlier_makings(settings.start) if settings.start else ""
    settings.work.mkdir(parents=True, exist_ok=True)
    stopwatch = Stopwatch(settings.work / "seconds.txt")
    stopwatch.start(go_on=True)
    torch.manual_seed(settings.seed)
    prompt_folder = resource_folder("prompts")
    tokenizer = build_tokenizer(prompt_folder, common_words())
    prompts = load_lesson_prompts(prompt_folder, tokenizer.get_added_vocab())
    model = load_checkpoint(settings.start, device="cpu").model.float() if settings.start else build_model(tokenizer)

    # 2. The training scenes
    pool = ScenePool(settings.num_families, settings.seed)
    kept = settings.work / f"keywords-{settings.num_families}-{settings.seed}.jsonl"
    examples = keep_examples(kept, pool.scenes, settings.num_families, settings.seed)
    words = words_of_one_token(tokenizer)
    data = LessonData(tokenizer, prompts, pool, examples, words, VISUAL_TOKENS)
    print(f"pretrain_scenes: {len(pool.scenes)} scenes, {model.num_parameters():,} parameters")

    # 3. The courses, one after the other
    machine = Machine(settings.device, settings.num_workers)
    for number, course in list(enumerate(COURSES, start=1))[settings.first_course - 1 :]:
        model = train_course(model, data, course, settings.work / f"course-{number}", settings.seed + number, machine)
        print(f"pretrain_scenes: course {number} ends after {stopwatch.seconds():.0f} s")
    seconds = stopwatch.stop()

    # 4. Save and evaluate
    new = settings.out.with_name(f".{settings.out.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    for part in (model.cpu().bfloat16(), tokenizer, build_image_processor()):
        part.save_pretrained(new)
    results = examine(load_checkpoint(new, device=settings.device), prompts, words)
    write_card(new, COURSES, results, Making(_typed(settings), seconds, describe_measurement(), before))
    shutil.rmtree(settings.out, ignore_errors=True)
    new.rename(settings.out)
    for name, percent in results.items():
        print(f"pretrain_scenes: {name} {percent:.1f} %")
    print(f"pretrain_scenes: {settings.out} holds the checkpoint")
    print(f"next: {data_command('caption', '--data', 'DATA', '--run', 'RUN', '--model', settings.out)}")


def _typed(settings: Settings) -> str:
    options = ["--seed", str(settings.seed), "--num-families", str(settings.num_families)]
    options += ["--device", settings.device, "--num-workers", str(settings.num_workers)]
    if settings.start:
        options += ["--start", "EARLIER", "--first-course", str(settings.first_course)]
    return command("python", "recipes/pretrain_scenes.py", "--out", "BASE", *options)


def words_of_one_token(tokenizer: Any) -> list[str]:
    """Return the words of the scenes, and common ones, that are one token after a space."""
    words = {*common_words(), *(word for group in WORD_GROUPS for word in group)}
    return sorted(word for word in words if len(tokenizer.tokenize(f" {word}")) == 1)


if __name__ == "__main__":
    run_command(main, Settings)
