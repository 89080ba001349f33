"""The base checkpoint's card: how it was made and how good it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.scenes.pretraining.courses import Course
from semcore.runtime.errors import UserError

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
tags: [semcore, scenes]
---

# The base checkpoint of the scenes

A very small InternVL (`InternVLForConditionalGeneration`: 4-layer vision tower, 5-layer Qwen2 text model,
its own tokenizer with InternVL's special tokens), stored in bfloat16. It describes the
drawn scenes of `python -m data_prep.make_scenes` and nothing else: on photographs its captions mean nothing.
It is there so that the whole of semcore can be run and tested in minutes on a CPU.

## How it was made

The courses of `recipes/pretrain_scenes.py`, from random weights, on drawn scenes of the pretraining pool. Which
pool a scene belongs to follows from a hash of what it holds, so no dataset of any seed has a scene of it.

{makings}

{courses}

## How good it is

On {num_scenes} random scenes of the datasets' pool, none of them seen in training:

| | percent |
|---|---|
| slots of the captions right (each object's place, size, colour, shape) | {slots_right:.2f} |
| captions right to the letter | {captions_right:.1f} |
| the right one of ten random scenes for a sentence, by likelihood | {right_image_of_ten:.1f} |
| the right one of ten random sentences for a scene, by likelihood | {right_sentence_of_ten:.1f} |

By likelihood means: by log p(sentence given scene), less log p(sentence) where sentences are chosen.

By letter, all ten candidates in one prompt, without keywords, asked once; the ideal reader understands every sentence
and every scene, and what is missing to 100 the sentences do not say:

| by letter | percent | the ideal reader |
|---|---|---|
| one of ten random scenes for a sentence | {t2i_random_picks:.1f} | {t2i_random_ideal:.1f} |
| one of ten random sentences for a scene | {i2t_random_picks:.1f} | {i2t_random_ideal:.1f} |
| the same, a look-alike of the scene among the ten | {t2i_alike_picks:.1f} | {t2i_alike_ideal:.1f} |
| the same, a sentence of a look-alike among the ten | {i2t_alike_picks:.1f} | {i2t_alike_ideal:.1f} |
| one of ten lists of three words for two of its words | {words_picks:.1f} | 100.0 |

## Load it

```python
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

model = AutoModelForImageTextToText.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
image_processor = AutoImageProcessor.from_pretrained(folder)
```
"""


@dataclass(frozen=True)
class Making:
    """How a checkpoint came about.

    Attributes:
        command: what was typed.
        seconds: of the training.
        measurement: `describe_measurement` of the machine.
        before: how the checkpoint that it went on from came about, from `read_card`; empty for random weights.
    """

    command: str
    seconds: float
    measurement: Mapping[str, Any]
    before: str = ""

    def as_text(self) -> str:
        """Return the card's paragraphs about it."""
        machine, versions = self.measurement["machine"], self.measurement["versions"]
        cores = f"{machine['num_cores']} cores ({machine['cpu']})"
        hardware = ", ".join([*machine["gpus"], cores])
        how = "went on from that, EARLIER," if self.before else "made it in one go,"
        own = (
            f"    {self.command}\n\n{how} in {self.seconds:.0f} seconds on {hardware} "
            f"(torch {versions['torch']}, transformers {versions['transformers']})."
        )
        return f"{self.before}\n\n{own}" if self.before else own


class Earlier(NamedTuple):
    """What a checkpoint's card says of its past: the paragraphs on how it was made, and how many courses it has had."""

    makings: str
    num_courses: int


def read_card(folder: Path) -> Earlier:
    """Return what a checkpoint's card says of its past.

    Raises:
        UserError: the folder has no card that says it.
    """
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.exists() else ""
    makings = re.search(r"^    python .*?(?=\n\n\|)", text, re.S | re.M)
    courses = re.findall(r"^\| (\d+) \| ", text, re.M)
    if makings is None or not courses:
        raise UserError(f"{folder} has no card of recipes/pretrain_scenes.py, which says what courses it has had")
    return Earlier(makings[0], max(map(int, courses)))


def write_card(
    folder: Path, courses: Sequence[Course], results: Mapping[str, float], making: Making, num_scenes: int = 500
) -> None:
    """Write README.md into a checkpoint's folder.

    Args:
        folder: the checkpoint.
        courses: the curriculum it was trained on, in order.
        results: from `exam.examine`.
        making: its origin.
        num_scenes: how many scenes it was evaluated on.
    """
    lines = [
        "| course | peak learning rate | steps | lessons (share of the steps, rows a batch) |",
        "|---|---|---|---|",
    ]
    for number, course in enumerate(courses, start=1):
        for term in course.terms:
            lessons = ", ".join(f"{name} ({share:.0%}, {rows})" for name, (share, rows) in term.lessons.items())
            lines.append(f"| {number} | {course.learning_rate} | {term.num_steps} | {lessons} |")
    text = CARD.format(courses="\n".join(lines), num_scenes=num_scenes, **results, makings=making.as_text())
    (folder / "README.md").write_text(text, encoding="utf-8")
